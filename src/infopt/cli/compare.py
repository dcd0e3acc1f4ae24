"""``infopt compare``: do two models or engines compute the same?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from infopt.cli.answer import Answer
from infopt.cli.options import (
    Command,
    data_option,
    json_option,
    report_option,
    seed_option,
    shape_option,
    signature_option,
    tolerance_option,
    verbose_option,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import RenderableType


@click.command(cls=Command, short_help="Check that two models or engines compute the same.")
@click.argument("candidate")
@click.argument("reference")
@shape_option
@data_option
@tolerance_option
@click.option(
    "--per-layer",
    is_flag=True,
    help="Compare what is inside, too: the error of each layer, and where both part ways.",
)
@seed_option
@signature_option
@report_option
@json_option
@verbose_option
def command(
    candidate: str,
    reference: str,
    shapes: tuple[str, ...],
    data: str | None,
    tolerance: float | None,
    per_layer: bool,
    seed: int,
    trusted: tuple[str, ...],
    report: str | None,
    verbose: bool,
) -> Answer:
    """Run CANDIDATE and REFERENCE, models or engines, on the same inputs.

    REFERENCE counts as right and runs with the runtime's optimizations off. Exits with 1 if an
    output differs beyond the tolerance. A --report has what is inside in any case.
    """
    from infopt.cli.progress import Progress
    from infopt.comparing import compare, compare_layers
    from infopt.events import Event

    with Progress() as progress:
        if per_layer or report is not None:
            both = compare_layers(
                candidate,
                reference,
                shapes=shapes,
                data=data,
                seed=seed,
                tolerance=tolerance,
                required=per_layer,
                trusted=trusted,
                report=report,
                on_event=progress,
            )
            found, document = both.outputs, both.as_dict()
        else:
            progress(Event("verify", f"{candidate} against {reference}"))
            found = compare(
                candidate,
                reference,
                shapes=shapes,
                data=data,
                seed=seed,
                tolerance=tolerance,
                trusted=trusted,
            )
            document = found.as_dict()
    return Answer(
        document=document,
        view=lambda: _view(document, verbose=verbose),
        exit_code=0 if found.holds else 1,
    )


def _view(document: Mapping[str, Any], *, verbose: bool) -> RenderableType:
    from rich.console import Group

    from infopt.cli import layers
    from infopt.cli.report import equivalence

    title = "The same" if document["holds"] else "Different"
    outputs = equivalence(document, title, verbose=verbose)
    if "per_layer" not in document:
        return outputs
    return Group(outputs, "", *layers.view(document, verbose=verbose))
