"""``infopt passes``: the words of a pipeline."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING

import click

from infopt.cli.answer import Answer
from infopt.cli.options import Command, json_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infopt.passes.base import Pass


@click.command(cls=Command)
@json_option
def command() -> Answer:
    """List the passes that a --pipeline can name, with their options.

    A pipeline is a list of them, such as fold-constants,repeat(merge-chains,eliminate-dead-code);
    options stand in braces after a pass.
    """
    from infopt.passes import PASSES

    return Answer(
        document=[_describe(a_pass) for a_pass in PASSES.values()],
        view=lambda: _view(list(PASSES.values())),
    )


def _describe(a_pass: type[Pass]) -> dict[str, object]:
    return {
        "name": a_pass.name,
        "options": {f.name: f.default for f in dataclasses.fields(a_pass)},
        "preserves": a_pass.preserves.value,
        "tolerance": a_pass.tolerance,
        "summary": _summary(a_pass),
    }


def _summary(a_pass: type[Pass]) -> str:
    """The first sentence of the class's docstring, on one line."""
    paragraph = (inspect.getdoc(a_pass) or "").partition("\n\n")[0]
    return " ".join(paragraph.replace("``", "").split())


def _view(passes: list[type[Pass]]) -> RenderableType:
    """Two lines for each pass: its word, what it preserves, its options; then what it does."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    width = max((len(a_pass.name) for a_pass in passes), default=0)
    lines: list[RenderableType] = []
    for a_pass in passes:
        options = ",".join(
            f"{f.name}={str(f.default).lower() if isinstance(f.default, bool) else f.default}"
            for f in dataclasses.fields(a_pass)
        )
        lines.append(
            Text.assemble(
                (f"{a_pass.name:<{width}}", "name"),
                (f"  {a_pass.preserves.value:<11}", "quiet"),
                f"  {{{options}}}" if options else "",
            )
        )
        lines.append(Padding(_summary(a_pass), (0, 0, 0, 2), expand=False))
    return Group(*lines)
