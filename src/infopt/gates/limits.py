"""How much worse than its baseline an engine may be."""

from __future__ import annotations

import dataclasses
import re

from infopt.errors import UsageError, nearest
from infopt.tuning.limits import Limits as ErrorLimits

FINDINGS = (
    "interface",
    "operators",
    "fusions",
    "precision",
    "error",
    "metric",
    "latency",
    "cold-start",
    "memory",
    "size",
)
"""The names of all findings, in the order in which they are told."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is allowed."""

    slowdown: float = 0.05
    """Of a call, relative to the reference: 0.05 is 5 % more time."""
    size_growth: float = 0.05
    """Of all files."""
    memory_growth: float = 0.2
    """Of the peak memory of a fresh process, relative to the reference."""
    cold_start_growth: float = 0.25
    """Of the time to the first answer, relative to the reference."""
    error: ErrorLimits | None = None
    """Bounds of the user's own on error and metric; without, what the baseline's error allows."""
    allowed: frozenset[str] = frozenset()
    """Findings that are told, and do not count."""

    def __post_init__(self) -> None:
        for name in self.allowed:
            if name not in FINDINGS:
                raise UsageError(
                    f"there is no finding {name!r} to allow{nearest(name, FINDINGS)}; there are "
                    f"{', '.join(FINDINGS)}"
                )


def share(text: str | float) -> float:
    """``5%`` or ``0.05`` as a number.

    Raises:
        UsageError: It is neither, or negative.
    """
    match = re.fullmatch(r"\s*([\d.eE+-]+)\s*(%?)\s*", str(text))
    try:
        number = float(match[1]) / (100 if match[2] else 1) if match else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number < 1000:
        raise UsageError(f"{text!r} is no limit; write a share, 5% or 0.05")
    return number
