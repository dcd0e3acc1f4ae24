"""What the parts of all reports share; each takes what ``--json`` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infopt.reports.page import Cell, Facts, Table, table
from infopt.words import count

ROWS = 12
"""Rows of a long table that are shown at once; the rest is folded."""


def top(
    caption: str, columns: str, rows: Sequence[Sequence[Cell | str]], one: str
) -> Iterator[Table]:
    """The first rows of a long table, and the others folded; never a fold for one or two."""
    most = ROWS if len(rows) > ROWS + 2 else len(rows)
    yield table(caption, columns, rows[:most])
    if rows[most:]:
        rest = count(len(rows) - most, f"more {one}")
        yield table(rest, columns, rows[most:], folded=True)


def conditions(versions: Mapping[str, Any], hardware: Mapping[str, Any]) -> Facts:
    """With what, and on what, the figures were taken."""
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Facts(
        (("Software", made), *((_title(key), _text(value)) for key, value in hardware.items()))
    )


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def sentence(text: str) -> str:
    """``text`` with a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
