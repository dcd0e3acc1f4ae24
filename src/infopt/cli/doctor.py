"""``infopt doctor``: does what is installed here fit together?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from infopt.cli.answer import Answer
from infopt.cli.options import Command, json_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infopt.environment import Check

_MARKS = {
    "ok": ("✓", "good"),
    "note": ("·", "quiet"),
    "warn": ("!", "caution"),
    "fail": ("✗", "bad"),
}


@click.command(cls=Command)
@json_option
def command() -> Answer:
    """Check what is installed against what fits together.

    Looks at versions, the opset and IR version that the installed ONNX Runtime loads, its
    execution providers and the GPU. Exits with 1 if something must be mended.
    """
    from infopt import environment

    checks = environment.diagnose()
    failed = [check for check in checks if check.level is environment.Level.FAIL]
    return Answer(
        document={
            "ok": not failed,
            "checks": [{**dataclasses.asdict(c), "level": c.level.value} for c in checks],
        },
        view=lambda: _view(checks),
        exit_code=1 if failed else 0,
    )


def _view(checks: Sequence[Check]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.words import count

    drawn = table("", "", "found", "fits")
    for check in checks:
        mark, style = _MARKS[check.level.value]
        drawn.add_row(Text(mark, style), check.subject, check.found, Text(check.wanted, "quiet"))
    advice = [
        Text.assemble(
            (_MARKS[check.level.value][0] + " ", _MARKS[check.level.value][1]),
            (check.subject, "name"),
            f": {check.advice}",
        )
        for check in checks
        if check.advice
    ]
    failures = sum(check.level.value == "fail" for check in checks)
    warnings = sum(check.level.value == "warn" for check in checks)
    if failures:
        verdict = Text(f"{count(failures, 'thing')} must be mended", "bad")
    elif warnings:
        verdict = Text(f"infopt can work; {count(warnings, 'thing')} to look at", "caution")
    else:
        verdict = Text("everything fits together", "good")
    parts: list[RenderableType] = [drawn, ""]
    if advice:
        parts += [*advice, ""]
    return Group(*parts, verdict)
