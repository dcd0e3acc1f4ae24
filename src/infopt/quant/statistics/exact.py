"""ExactSum: a sum of float32 numbers without rounding, hence independent of their order."""

from __future__ import annotations

import numpy as np

DIGIT = 40
"""Bits of a digit."""
UNITS = tuple(range(-184, 97, DIGIT))
"""Binary exponents of the digits' units: from below the smallest float32 to 2^136."""
TERMS = 1 << 12
"""Terms that are added in floating point before they become integers."""
_ROUNDS = 1 << 10
"""Additions after which digits are carried: 2^10 of at most 2^52 fit into 63 bits."""


class ExactSum:
    """Sums, one for each of ``size`` channels, as numbers of eight digits of 40 bits.

    A float32 is cut at multiples of 2^(40 i - 24). The parts between two cuts have at most 41
    bits, so float64 adds up to ``TERMS`` of them without rounding, whatever the order, and the
    sums are carried into int64 digits. This is the idea of Demmel & Nguyen, "Fast Reproducible
    Floating-Point Summation" (ARITH 2013), with as many cuts as it takes to lose nothing. Most
    data needs two of the eight.

    Digits are canonical (all but the last are within ``[0, 2^40)``): equal sums are equal arrays.
    """

    def __init__(self, size: int) -> None:
        self.digits = np.zeros((len(UNITS), size), np.int64)
        self._pending = 0

    def add(self, values: np.ndarray, magnitude: float) -> None:
        """Add float64 ``values`` that are exact float32 numbers; they are overwritten.

        Args:
            values: ``(n, channels, m)`` with ``n · m <= TERMS``, finite.
            magnitude: At least the largest absolute value.
        """
        level = 0
        while magnitude >= 2.0 ** (UNITS[level] + DIGIT):
            level += 1
        while level >= 0:
            unit = UNITS[level]
            # Adding 1.5 · 2^52 units leaves no room for less than a unit; the rest is exact.
            ruler = 1.5 * 2.0 ** (52 + unit)
            parts = values + ruler
            parts -= ruler
            sums = parts.sum(axis=(0, 2)) * 2.0**-unit
            self.digits[level] += sums.astype(np.int64)
            values -= parts
            if not values.any():
                break
            level -= 1
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
