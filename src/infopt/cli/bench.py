"""``infopt bench``: how fast models and engines are beside each other."""

from __future__ import annotations

from collections.abc import Callable
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

    from infopt.subjects import Benchmark, Needs


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
@click.option(
    "--concurrency",
    type=click.IntRange(min=1, max=1024),
    help="Also how many requests a second are answered, so many at a time.",
)
@click.option(
    "--price-per-hour",
    type=click.FloatRange(min=0),
    metavar="PRICE",
    help="Of a machine like this one: also what a million requests cost.",
)
@click.option(
    "--cold-start",
    "cold_starts",
    is_flag=True,
    help="Also how long a fresh process takes to its first answer, and its memory.",
)
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
    concurrency: int | None,
    price_per_hour: float | None,
    cold_starts: bool,
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
            concurrency=concurrency,
            price_per_hour=price_per_hour,
            cold_starts=cold_starts,
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
    parts += [_needs(found), ""]
    hardware = document["hardware"]
    where = f"{hardware['processor']}, {hardware['cores']} cores"
    return Group(*parts, Text(where, "quiet"))


def _needs(found: Benchmark) -> RenderableType:
    """What each subject needs: a column for whatever was asked for or is known."""
    from rich.console import Group
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.words import duration, quantity, size

    columns: dict[str, Callable[[Needs], str | None]] = {
        ">on disk": lambda needs: size(needs.bytes) if needs.bytes else None,
        ">built in": lambda needs: None if needs.built is None else duration(needs.built),
        ">a second": lambda needs: (
            None if needs.throughput is None else quantity(needs.throughput.per_second)
        ),
        ">a million cost": lambda needs: None if needs.cost is None else f"{needs.cost:,.2f}",
        ">first answer": lambda needs: (
            None if needs.cold_start is None else duration(needs.cold_start)
        ),
        ">memory": lambda needs: None if needs.peak_rss is None else size(needs.peak_rss),
    }
    cells = {title: [cell(needs) for needs in found.needs] for title, cell in columns.items()}
    shown = {title: column for title, column in cells.items() if any(column)}
    drawn = table("", "", *shown)
    for number, name in enumerate(found.subjects):
        drawn.add_row("", Text(name, "name"), *(column[number] or "–" for column in shown.values()))
    rate = found.needs[0].throughput
    note = "" if rate is None else f"{rate.concurrency:,} requests at a time"
    return Group(Text.assemble(("Needs", "name"), "  ", note), drawn)
