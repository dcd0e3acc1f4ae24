"""``infopt bench``: how fast models and engines are beside each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from infopt.cli.answer import Answer
from infopt.cli.options import (
    Command,
    data_option,
    json_option,
    quiet_option,
    report_option,
    seed_option,
    shape_option,
    signature_option,
    threads_option,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infopt.subjects import Benchmark


@click.command(cls=Command, short_help="Time models and engines beside each other.")
@click.argument("subjects", nargs=-1, required=True, metavar="A [B …]")
@shape_option
@click.option("--batch", type=click.IntRange(min=1), help="Short for --shape batch=N.")
@data_option
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Time budget of the rounds.",
)
@threads_option
@seed_option
@signature_option
@report_option
@json_option
@quiet_option
def command(
    subjects: tuple[str, ...],
    shapes: tuple[str, ...],
    batch: int | None,
    data: str | None,
    seconds: float,
    threads: int | None,
    seed: int,
    trusted: tuple[str, ...],
    report: str | None,
    quiet: bool,
) -> Answer:
    """Time models and engines in one run, each round in shuffled order.

    A model runs as ONNX Runtime runs it by default. A is the baseline: the speed of the others
    is a multiple of its own, with a confidence interval.
    """
    from infopt import api
    from infopt.cli.progress import Progress

    wanted = [*shapes, *([f"batch={batch}"] if batch else [])]
    with Progress(quiet=quiet) as progress:
        found = api.benchmark(
            *subjects,
            shapes=wanted,
            data=data,
            seconds=seconds,
            threads=threads,
            seed=seed,
            trusted=trusted,
            report=report,
            on_event=progress,
        )
    return Answer(found.as_dict(), lambda: "" if quiet else _view(found))


def _view(found: Benchmark) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from infopt.cli.report import speed

    document = found.as_dict()
    parts: list[RenderableType] = []
    for run in document["runs"]:
        parts += [speed(run, "Speed"), ""]
    hardware = document["hardware"]
    where = f"{hardware['processor']}, {hardware['cores']} cores"
    return Group(*parts, Text(where, "quiet"))
