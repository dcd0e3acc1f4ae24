"""What a command returns: the same result for programs and for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclasses.dataclass(frozen=True)
class Answer:
    """The result of a command."""

    document: object
    """What ``--json`` prints; numbers, strings, lists and dicts only."""
    view: Callable[[], RenderableType]
    """Draws the result for people; not called under ``--json``. Plain text is printed as it is."""
    exit_code: int = 0
    """0, or 1 where a check was made and did not hold."""
