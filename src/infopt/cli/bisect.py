"""``infopt bisect``: which pass, and which of its changes, breaks a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from infopt.cli.answer import Answer
from infopt.cli.options import (
    Command,
    calibration_option,
    data_option,
    json_option,
    min_sqnr_option,
    precision_option,
    provider_option,
    quiet_option,
    remote_code_option,
    scheme_option,
    seed_option,
    shape_option,
    synthetic_calibration_option,
    target_option,
    task_option,
    threads_option,
    tolerance_option,
    verbose_option,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infopt.bisecting import Bisection


@click.command(cls=Command, short_help="Find the pass, rule and node that break a model.")
@click.argument("model")
@target_option
@precision_option
@scheme_option
@click.option("--pipeline", metavar="PASSES", help="Passes to search in.  [default: the preset's]")
@shape_option
@data_option
@tolerance_option
@min_sqnr_option
@synthetic_calibration_option
@calibration_option
@seed_option
@threads_option
@provider_option
@task_option
@remote_code_option
@json_option
@quiet_option
@verbose_option
def command(
    model: str,
    target: str,
    precision: str,
    scheme: str | None,
    pipeline: str | None,
    shapes: tuple[str, ...],
    data: str | None,
    tolerance: float | None,
    least_sqnr: float | None,
    synthetic_calibration: bool,
    calibration: str | None,
    seed: int,
    threads: int | None,
    provider_options: dict[str, str],
    task: str | None,
    trust_remote_code: bool,
    quiet: bool,
    verbose: bool,
) -> Answer:
    """Compile MODEL as `infopt optimize` does, and find what of it changes the outputs.

    The pipeline is replayed with fewer and fewer changes until one is guilty. Nothing is
    written. Exits with 1 if something is guilty, with 0 if the outputs are within the tolerance.
    """
    from infopt.bisecting import bisect
    from infopt.cli.progress import Progress

    with Progress(quiet=quiet) as progress:
        found = bisect(
            model,
            target=target,
            precision=precision,
            pipeline=pipeline,
            scheme=scheme,
            shapes=shapes,
            data=data,
            tolerance=tolerance,
            least_sqnr=least_sqnr,
            synthetic_calibration=synthetic_calibration,
            calibration=calibration,
            seed=seed,
            threads=threads,
            provider_options=provider_options,
            task=task,
            trust_remote_code=trust_remote_code,
            on_event=progress,
        )
    return Answer(
        document=found.as_dict(),
        view=lambda: "" if quiet else _view(found, verbose=verbose),
        exit_code=0 if found.culprit is None else 1,
    )


def _view(found: Bisection, *, verbose: bool) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.cli.report import equivalence
    from infopt.words import count

    culprit = found.culprit
    document = {**found.equivalence.as_dict(), "ran": found.ran}
    if culprit is None:
        return equivalence(document, "Nothing is guilty", verbose=verbose)
    drawn = table("", "")
    rows = {"pass": culprit.step, "rule": culprit.rule, "node": culprit.node}
    for name, value in rows.items():
        if value:
            drawn.add_row(Text(f"  {name}", "head"), Text(value, "bad"))
    heading = Text.assemble(("Guilty", "name"), f"  found in {count(len(found.tried), 'attempt')}")
    tried = [Text(f"  {what}", "quiet") for what in found.tried] if verbose else []
    return Group(heading, drawn, *tried, "", equivalence(document, "How far", verbose=verbose))
