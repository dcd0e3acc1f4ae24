"""The command line: one small file per command, and one place where every command ends.

A command turns its arguments into one call of the library and returns an
:class:`~infopt.cli.answer.Answer`; :class:`Infopt` prints it and exits with its code. Command
files import only click when they are loaded, so ``infopt --help`` answers at once.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from infopt._version import __version__
from infopt.errors import nearest

COMMANDS = (
    "optimize",
    "calibrate",
    "inspect",
    "sensitivity",
    "compare",
    "bench",
    "baseline",
    "check",
    "profile",
    "bisect",
    "sign",
    "passes",
    "targets",
    "doctor",
)


class Infopt(click.Group):
    """The group of all commands, each loaded from ``infopt.cli.<name>`` when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one command, or return ``None`` where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"infopt.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that ``args`` begin with, or name the nearest one."""
        if args[0] not in COMMANDS:
            ctx.fail(f"there is no command {args[0]!r}{nearest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]  # click's overloads describe the two standalone modes
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command, print its answer or its error, and exit."""
        from infopt.cli import ending

        arguments = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        as_json = "--json" in arguments
        with ending.Interrupts() as interrupts:
            try:
                result = super().main(arguments, prog_name or "infopt", **extra)
                code = ending.deliver(result, as_json=as_json)
            except BaseException as error:
                code = ending.fail(error, as_json=as_json, interrupted=interrupts.heard)
        sys.exit(code)


@click.group(
    cls=Infopt,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 a check failed, 2 wrong usage, 3 it cannot be done.",
)
@click.version_option(__version__, prog_name="infopt", message="%(prog)s %(version)s")
def main() -> None:
    """Compile a trained model into the fastest engine that still gives the right answers.

    infopt shows the evidence: what changed, how exact the result is, how fast, how large.
    """
