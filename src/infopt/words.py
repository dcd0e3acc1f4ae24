"""Figures as people read them. Decimal units throughout: 1 MB is 10⁶ bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

_PREFIXES = ("", "k", "M", "G", "T", "P")


def quantity(value: float, unit: str = "") -> str:
    """Three significant digits with a prefix: ``22.7 M``, ``11.2 GFLOPs``, ``512 B``."""
    power = 0
    scaled = float(value)
    while abs(scaled) >= 999.5 and power < len(_PREFIXES) - 1:
        scaled /= 1000
        power += 1
    whole = power == 0 and scaled.is_integer()
    digits = f"{scaled:.0f}" if whole else _three_digits(scaled)
    return f"{digits} {_PREFIXES[power]}{unit}".rstrip()


def size(count: int) -> str:
    """A number of bytes: ``437 MB``."""
    return quantity(count, "B")


def duration(seconds: float) -> str:
    """A time: ``412 µs``, ``3.21 ms``, ``1.25 s``, ``2 min 05 s``."""
    if seconds >= 59.95:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest:02d} s"
    if seconds >= 0.9995:
        return f"{_three_digits(seconds)} s"
    if seconds >= 0.9995e-3:
        return f"{_three_digits(seconds * 1e3)} ms"
    return f"{seconds * 1e6:.0f} µs"


def figure(value: float) -> str:
    """A small number of unknown magnitude: ``0``, ``2.1e-07``, ``exact`` stays with the caller."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}".replace("inf", "∞")
    return f"{value:.1e}"


def decibels(value: float, digits: int = 0) -> str:
    """``25 dB``, ``25.4 dB``; ``∞`` where nothing differs."""
    return f"{value:.{digits}f} dB" if math.isfinite(value) else figure(value)


def cosine(value: float) -> str:
    """Six decimals, never rounded up to a one that it is not."""
    return "1" if value == 1 else f"{min(value, 0.999999):.6f}"


def count(number: int, singular: str, plural: str = "") -> str:
    """``1 pass``, ``3 passes``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def shape(dimensions: Sequence[int | str | None] | None) -> str:
    """``1×128``, ``batch×sequence``; ``scalar``; ``?`` for what is not known."""
    if dimensions is None:
        return "?"
    return "×".join("?" if d is None else str(d) for d in dimensions) or "scalar"


def _three_digits(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"
