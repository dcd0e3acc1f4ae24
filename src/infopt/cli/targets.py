"""``infopt targets``: what infopt can compile for, and which of it runs here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from infopt.cli.answer import Answer
from infopt.cli.options import Command, json_option

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command(cls=Command)
@json_option
def command() -> Answer:
    """List the targets, and say which of them run on this machine.

    A model can be optimized for a target that is not here; running or measuring it needs the
    target itself.
    """
    from infopt import environment
    from infopt.target import DEFAULT_TARGET, TARGETS

    reasons = {name: environment.unavailable(target) for name, target in TARGETS.items()}
    return Answer(
        document=[
            {
                **dataclasses.asdict(target),
                "default": name == DEFAULT_TARGET,
                "available": not reasons[name],
                "reason": reasons[name],
            }
            for name, target in TARGETS.items()
        ],
        view=lambda: _view(reasons),
    )


def _view(reasons: Mapping[str, str]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.target import TARGETS

    drawn = table("target", "", "runs here")
    notes: list[Text] = []
    for name, target in TARGETS.items():
        available = Text("✓ yes", "good") if not reasons[name] else Text("· no", "quiet")
        drawn.add_row(Text(name, "name"), target.description, available)
        if reasons[name]:
            notes.append(Text.assemble((name, "name"), f": {reasons[name]}"))
    return Group(drawn, "", *notes) if notes else drawn
