"""``infopt compare``: do two models or engines compute the same?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from infopt.cli.answer import Answer
from infopt.cli.options import (
    Command,
    data_option,
    json_option,
    seed_option,
    shape_option,
    signature_option,
    tolerance_option,
    verbose_option,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infopt.evidence.equivalence import Equivalence


@click.command(cls=Command, short_help="Check that two models or engines compute the same.")
@click.argument("candidate")
@click.argument("reference")
@shape_option
@data_option
@tolerance_option
@seed_option
@signature_option
@json_option
@verbose_option
def command(
    candidate: str,
    reference: str,
    shapes: tuple[str, ...],
    data: str | None,
    tolerance: float | None,
    seed: int,
    trusted: tuple[str, ...],
    verbose: bool,
) -> Answer:
    """Run CANDIDATE and REFERENCE, models or engines, on the same inputs.

    REFERENCE counts as right and runs with the runtime's optimizations off. Exits with 1 if an
    output differs beyond the tolerance.
    """
    from infopt import api
    from infopt.cli.progress import Progress
    from infopt.events import Event

    with Progress() as progress:
        progress(Event("verify", f"{candidate} against {reference}"))
        found = api.compare(
            candidate,
            reference,
            shapes=shapes,
            data=data,
            seed=seed,
            tolerance=tolerance,
            trusted=trusted,
        )
    return Answer(
        document=found.as_dict(),
        view=lambda: _view(found, verbose=verbose),
        exit_code=0 if found.holds else 1,
    )


def _view(found: Equivalence, *, verbose: bool) -> RenderableType:
    from infopt.cli.report import equivalence

    title = "The same" if found.holds else "Different"
    return equivalence(found.as_dict(), title, verbose=verbose)
