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
    from rich.text import Text


@click.command(cls=Command)
@json_option
def command() -> Answer:
    """List the targets, and say for which of them this machine can build engines, and run them.

    A model can be optimized for most targets that are not here; running or measuring it needs
    the target itself.
    """
    from infopt import environment
    from infopt.target import DEFAULT_TARGET, TARGETS

    reasons = {name: environment.unavailable(target) for name, target in TARGETS.items()}
    lacking = {name: environment.unbuildable(target) for name, target in TARGETS.items()}
    return Answer(
        document=[
            {
                **dataclasses.asdict(target),
                "default": name == DEFAULT_TARGET,
                "available": not reasons[name],
                "reason": reasons[name],
                "builds": not lacking[name],
            }
            for name, target in TARGETS.items()
        ],
        view=lambda: _view(reasons, lacking),
    )


def _view(reasons: Mapping[str, str], lacking: Mapping[str, str]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.target import TARGETS

    drawn = table("target", "", "builds here", "runs here")
    notes: list[Text] = []
    for name, target in TARGETS.items():
        answers = [_answer(not why[name]) for why in (lacking, reasons)]
        drawn.add_row(Text(name, "name"), target.description, *answers)
        if reasons[name]:
            notes.append(Text.assemble((name, "name"), f": {reasons[name]}"))
    return Group(drawn, "", *notes) if notes else drawn


def _answer(yes: bool) -> Text:
    from rich.text import Text

    return Text("✓ yes", "good") if yes else Text("· no", "quiet")
