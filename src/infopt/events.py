"""What a long call tells whoever watches it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Event:
    """One step of the way: begun, or moved on."""

    stage: str
    """``import``, ``pass``, ``calibrate``, ``rank``, ``keep``, ``compile``, ``build``, ``verify``,
    ``bisect``, ``measure`` or ``write``."""
    detail: str = ""
    """What exactly, in words: the pass, the sample, the file."""
    done: int | None = None
    """How much of the stage is done …"""
    total: int | None = None
    """… and out of how much, where that is known."""


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
