"""Where text for people goes, and how it looks: calm tables, one accent, no boxes.

A stream that the caller has closed (``>&-``) is ``None`` in Python; what goes there is lost.
"""

from __future__ import annotations

import io
import os
import sys
from typing import IO

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

WIDE = 1000
"""Columns where nobody watches: a table in a file or a pipe is never folded."""

_THEME = Theme(
    {
        "good": "green",
        "bad": "bold red",
        "caution": "yellow",
        "quiet": "dim",
        "head": "dim",
        "name": "bold",
        "verb": "bold green",
        "progress.elapsed": "dim",
    }
)


def console_on(stream: IO[str], width: int | None = None) -> Console:
    """A console on ``stream``: as wide as given, as its terminal, or :data:`WIDE`."""
    if hasattr(stream, "reconfigure"):
        # A terminal that cannot show an arrow should show a question mark, not a traceback.
        stream.reconfigure(errors="replace")
    if width is None and not (stream.isatty() or "COLUMNS" in os.environ):
        width = WIDE
    return Console(
        file=stream,
        theme=_THEME,
        highlight=False,
        emoji=False,
        markup=False,
        width=width,
    )


def stdout() -> Console:
    """The console for answers."""
    return console_on(sys.stdout or io.StringIO())


def stderr() -> Console:
    """The console for progress, warnings and errors."""
    return console_on(sys.stderr or io.StringIO())


def print_error(message: str, hint: str = "") -> None:
    """Print ``error: message`` on stderr, unwrapped so that paths and commands can be copied."""
    console = stderr()
    console.print(Text.assemble(("error", "bad"), ": ", message), soft_wrap=True)
    if hint:
        console.print(Text(f"  {hint}", style="quiet"), soft_wrap=True)


def table(*columns: str, title: str = "") -> Table:
    """A table without lines; a column whose heading starts with ``>`` is aligned right.

    Long cells are folded, never cut: what stands in a table is there to be copied.
    """
    drawn = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="head",
        title=title or None,
        title_justify="left",
        title_style="name",
        show_header=any(columns),
    )
    for column in columns:
        right = column.startswith(">")
        drawn.add_column(column.lstrip(">"), justify="right" if right else "left", overflow="fold")
    return drawn
