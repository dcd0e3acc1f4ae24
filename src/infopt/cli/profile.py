"""``infopt profile``: where the time of one run goes, node by node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infopt import sentences
from infopt.cli.answer import Answer
from infopt.cli.options import (
    Command,
    data_option,
    json_option,
    quiet_option,
    seed_option,
    shape_option,
    signature_option,
    threads_option,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infopt.profiling import Profile

TOP = 15
"""Nodes that are listed one by one; ``--all`` lists the rest too."""


@click.command(cls=Command, short_help="Show where the time of one run goes, node by node.")
@click.argument("subject", metavar="ENGINE_OR_MODEL")
@shape_option
@data_option
@click.option(
    "--trace",
    metavar="FILE",
    help="Write every kernel of every call there, for ui.perfetto.dev or chrome://tracing.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=3.0,
    show_default=True,
    help="Time budget of the calls.",
)
@click.option("--all", "everything", is_flag=True, help="List every node.")
@threads_option
@seed_option
@signature_option
@json_option
@quiet_option
def command(
    subject: str,
    shapes: tuple[str, ...],
    data: str | None,
    trace: str | None,
    seconds: float,
    everything: bool,
    threads: int | None,
    seed: int,
    trusted: tuple[str, ...],
    quiet: bool,
) -> Answer:
    """Run ENGINE_OR_MODEL under the runtime's profiler: nodes, operators, their shares.

    Times are medians over calls on the first sample. The profiler itself costs time, so that a
    call takes longer than `infopt bench` says; what to believe are the shares.
    """
    from infopt.cli.progress import Progress
    from infopt.outputs import check_text, write_text
    from infopt.profiling import profile

    if trace is not None:
        check_text(Path(trace))
    with Progress(quiet=quiet) as progress:
        found = profile(
            subject,
            shapes=shapes,
            data=data,
            seconds=seconds,
            threads=threads,
            seed=seed,
            trusted=trusted,
            on_event=progress,
        )
        if trace is not None:
            write_text(Path(trace), json.dumps(found.trace()))
    top = None if everything else TOP
    return Answer(found.as_dict(), lambda: "" if quiet else _view(found, top, trace))


def _view(found: Profile, top: int | None, trace: str | None) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from infopt.words import count, duration

    how = (
        f"{found.sample}; medians of {count(found.calls, 'call')}, "
        f"{duration(found.seconds)} each, {duration(found.between)} of it between nodes"
    )
    parts: list[RenderableType] = [
        Text.assemble(("Where the time goes", "name"), f"  {found.subject}"),
        Text(f"  {how}", "quiet"),
        "",
        _operators(found),
        "",
        _nodes(found, top),
    ]
    if trace is not None:
        parts += ["", Text(f"The timeline is in {trace}; open it at ui.perfetto.dev", "quiet")]
    return Group(*parts)


def _operators(found: Profile) -> RenderableType:
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.words import duration

    drawn = table("operator", ">nodes", ">time", ">share", "provider")
    for row in found.operators:
        drawn.add_row(
            Text(row.operator, "name"),
            f"{row.nodes:,}",
            duration(row.seconds),
            f"{row.share:.1%}",
            sentences.provider(row.provider),
        )
    return drawn


def _nodes(found: Profile, top: int | None) -> RenderableType:
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.words import duration, shape

    drawn = table("node", "operator", ">time", ">share", "output", "layer", "provider")
    shown = found.nodes if top is None else found.nodes[:top]
    for row in shown:
        drawn.add_row(
            Text(row.origin or row.node, "name"),
            row.operator,
            duration(row.seconds),
            f"{row.share:.1%}",
            shape(row.outputs[0][1]) if row.outputs else "–",
            row.layer,
            sentences.provider(row.provider),
        )
    rest = found.nodes[len(shown) :]
    if rest:
        seconds, share = sum(row.seconds for row in rest), sum(row.share for row in rest)
        cells = [f"{len(rest):,} more", "", duration(seconds), f"{share:.1%}", "", "", ""]
        drawn.add_row(*cells, style="quiet")
    return drawn
