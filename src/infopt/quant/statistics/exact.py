"""ExactSum: a sum of float32 numbers without rounding, hence independent of their order."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

DIGIT = 40
"""Bits of a digit."""
UNITS = tuple(range(-184, 97, DIGIT))
"""Binary exponents of the digits' units: from below the smallest float32 to 2^136."""
TERMS = 1 << 12
"""Terms that are added in floating point before they become integers."""
_FINEST = -149
"""Of the smallest float32: nothing is left below it."""
_ROUNDS = 1 << 10
"""Additions after which digits are carried: 2^10 of at most 2^52 fit into 63 bits."""


class ExactSum:
    """Sums, one for each of ``size`` channels, as numbers of eight digits of 40 bits.

    Digits are canonical (all but the last are within ``[0, 2^40)``): equal sums are equal arrays.
    """

    def __init__(self, size: int) -> None:
        self.digits = np.zeros((len(UNITS), size), np.int64)
        self._pending = 0

    def add(self, sums: np.ndarray, unit: int) -> None:
        """Add ``sums`` times ``2^unit``: float64 ``(size,)`` of :func:`cuts`."""
        level, shift = divmod(unit - UNITS[0], DIGIT)
        whole = sums.astype(np.int64)
        self.digits[level] += (whole & ((1 << (DIGIT - shift)) - 1)) << shift
        self.digits[level + 1] += whole >> (DIGIT - shift)
        self._pending += 1
        if self._pending >= _ROUNDS:
            self.carry()

    def merge(self, other: ExactSum) -> None:
        """Add another's sums; both must have been carried."""
        self.digits += other.digits
        self.carry()

    def carry(self) -> None:
        """Make the digits canonical."""
        for level in range(len(UNITS) - 1):
            over = self.digits[level] >> DIGIT
            self.digits[level] -= over << DIGIT
            self.digits[level + 1] += over
        self._pending = 0

    def divided(self, counts: np.ndarray) -> np.ndarray:
        """The sums by ``counts``, each rounded once, as float64; 0 where the count is 0."""
        found = np.zeros(counts.size)
        for index, count in enumerate(counts.tolist()):
            total = sum(
                digit << (DIGIT * level)
                for level, digit in enumerate(self.digits[:, index].tolist())
            )
            found[index] = total / (count << -UNITS[0]) if count else 0.0
        return found


def cuts(values: np.ndarray, magnitude: float) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The sums of values, and of their magnitudes, in parts that are exact.

    Every value is cut 40 bits below the largest. The upper parts are whole multiples of a unit,
    below 2^40, so float64 adds up to ``TERMS`` of them without rounding, whatever the order. What
    is below, of the few values that have something there, is cut again. This is the idea of
    Demmel & Nguyen, "Fast Reproducible Floating-Point Summation" (ARITH 2013), with as many cuts
    as it takes to lose nothing.

    Args:
        values: float32 ``(n, channels, m)`` with ``n · m <= TERMS``, finite.
        magnitude: At least the largest absolute value.

    Yields:
        The binary exponent of a unit, and how many units the parts come to in each channel: of
        the values and of their magnitudes, float64 ``(channels,)`` of at most 2^52.
    """
    _, channels, m = values.shape
    unit = max(math.frexp(magnitude)[1] - DIGIT, _FINEST)
    rest = np.multiply(values, math.ldexp(1.0, -unit), dtype=np.float64)
    parts = np.trunc(rest)  # towards 0: each part has the sign of its value
    yield unit, parts.sum(axis=(0, 2)), np.abs(parts).sum(axis=(0, 2))
    rest -= parts
    where = np.flatnonzero(rest != 0)  # numpy looks for booleans several times as fast
    few, channel = rest.ravel()[where], where // m % channels
    while few.size:
        finer = max(unit - DIGIT, _FINEST)
        few *= math.ldexp(1.0, unit - finer)
        unit, parts = finer, np.trunc(few)
        magnitudes = np.bincount(channel, np.abs(parts), channels)
        yield unit, np.bincount(channel, parts, channels), magnitudes
        few -= parts
        left = few != 0
        few, channel = few[left], channel[left]
