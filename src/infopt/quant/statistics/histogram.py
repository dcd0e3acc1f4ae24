"""Histogram: how often which value occurred, in bounded memory and independent of batches."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from infopt.errors import QuantizationError
from infopt.quant.statistics.state import read, require

BINS = 4096
"""Bins of each sign. The largest magnitude seen lies in the upper half of them."""
LOWEST_EXPONENT = -126
"""The finest bins are 2^-126 wide: a finer width has no reciprocal in float32."""
HIGHEST_EXPONENT = 116
"""``BINS`` bins of this width reach past the largest float32."""
CHUNK = 1 << 17
"""Elements taken at once: they and their bin numbers stay in the caches, and are many beside the
bins, which each chunk's counts are added to."""

HELD = 1 << 16
"""Elements of small arrays that are held back until there are so many: each time that some are
counted costs as much as some ten thousand of them, whether they are many or few. A histogram of
small arrays is larger by 256 KiB for it."""

_ALTERNATE = np.resize(np.array([0, BINS], np.int32), CHUNK)
"""After a ReLU every second value is 0. A counter that is raised again and again makes each step
wait for the one before; neighbours that have tables of their own do not."""


class Histogram:
    """Counts of float32 values over bins of equal width, aligned at 0, for both signs.

    The bin of ``x`` is ``trunc(x / width)``, from ``-(BINS - 1)`` to ``BINS - 1``; bin 0 holds
    what lies within one width of 0 on either side. ``width`` is the smallest power of two for
    which the largest magnitude has a bin. When a larger one arrives, the width doubles and
    neighbours are added together. Since ``trunc(trunc(x / w) / 2) = trunc(x / 2w)``, and division
    by a power of two is exact, the counts are those that one pass with the last width would have
    found: they depend on the multiset of the values, and on nothing else.

    Values that are not finite are counted apart. float64 is rounded to float32.
    """

    def __init__(self) -> None:
        self._counted = _Seen()
        self._held = np.empty(0, np.float32)
        self._waiting = 0

    @property
    def _seen(self) -> _Seen:
        """The figures, with what was held back."""
        self._count_held()
        return self._counted

    @property
    def counts(self) -> np.ndarray:
        """int64 ``(2 · BINS - 1,)``: the count of bin ``k`` is at ``k + BINS - 1``."""
        found = self._seen.counts.view()
        found.flags.writeable = False
        return found

    @property
    def width(self) -> float:
        """The width of a bin, a power of two."""
        return math.ldexp(1.0, self._seen.exponent)

    @property
    def low(self) -> float:
        """The smallest value, exactly; infinite before the first."""
        return self._seen.low

    @property
    def high(self) -> float:
        """The largest value, exactly; minus infinite before the first."""
        return self._seen.high

    @property
    def zeros(self) -> int:
        """How many values are exactly 0, of either sign; they are in ``counts`` as well."""
        return self._seen.zeros

    @property
    def nonfinite(self) -> int:
        """How many values were NaN or infinite; they are in no other figure."""
        return self._seen.nonfinite

    @property
    def count(self) -> int:
        """How many finite values were seen."""
        return int(self._seen.counts.sum())

    def update(self, array: np.ndarray) -> None:
        """Count the elements of ``array``: floating point, any shape."""
        flat = array.ravel(order="K")
        if flat.size >= HELD:
            for start in range(0, flat.size, CHUNK):
                self._counted.add(flat[start : start + CHUNK])
            return
        if not self._held.size:
            self._held = np.empty(HELD, np.float32)
        fits = min(flat.size, HELD - self._waiting)
        self._hold(flat[:fits])
        if fits < flat.size:
            self._count_held()
            self._hold(flat[fits:])

    def _hold(self, values: np.ndarray) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            self._held[self._waiting : self._waiting + values.size] = values
        self._waiting += values.size

    def _count_held(self) -> None:
        if self._waiting:
            waiting, self._waiting = self._held[: self._waiting], 0
            self._counted.add(waiting)

    def merge(self, other: Histogram) -> None:
        """Count what ``other`` has counted, as if this one had seen it all."""
        self._seen.merge(other._seen)

    def state(self) -> dict[str, np.ndarray]:
        """All that is known, as arrays to save."""
        seen = self._seen
        return {
            "counts": seen.counts.copy(),
            "exponent": np.array(seen.exponent, np.int64),
            "range": np.array([seen.low, seen.high], np.float32),
            "zeros": np.array(seen.zeros, np.int64),
            "nonfinite": np.array(seen.nonfinite, np.int64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> Histogram:
        """The histogram whose ``state`` it is.

        Raises:
            QuantizationError: The arrays are no such state.
        """
        found = cls()
        seen = found._counted
        seen.counts = read(state, "counts", np.int64, (2 * BINS - 1,))
        seen.exponent = int(read(state, "exponent", np.int64, ()))
        seen.low, seen.high = (float(end) for end in read(state, "range", np.float32, (2,)))
        seen.zeros = int(read(state, "zeros", np.int64, ()))
        seen.nonfinite = int(read(state, "nonfinite", np.int64, ()))
        require(seen.counts.min() >= 0 and seen.nonfinite >= 0, "a count is negative")
        require(0 <= seen.zeros <= seen.counts[BINS - 1], "more zeros than values near 0")
        if found.count:
            magnitude = max(-seen.low, seen.high)
            require(seen.low <= seen.high and magnitude < math.inf, "the range is none")
            require(seen.exponent == _exponent_for(magnitude), "the width does not fit the range")
        else:
            fresh = _Seen()
            ends = seen.low, seen.high, seen.exponent
            require(ends == (fresh.low, fresh.high, fresh.exponent), "a range without values")
        return found


class _Seen:
    """The running figures."""

    def __init__(self) -> None:
        self.counts = np.zeros(2 * BINS - 1, np.int64)
        self.exponent = LOWEST_EXPONENT
        self.low, self.high = math.inf, -math.inf
        self.zeros = 0
        self.nonfinite = 0

    def add(self, values: np.ndarray) -> None:
        """Count ``(n,)``, ``n`` from 1 to ``CHUNK``."""
        with np.errstate(over="ignore", invalid="ignore"):
            values = values.astype(np.float32, copy=False)
            low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):  # NaN is both minimum and maximum
            finite = values[np.isfinite(values)]
            self.nonfinite += values.size - finite.size
            if finite.size:
                self.add(finite)
            return
        self.low = min(self.low, low + 0.0)  # which makes -0 a 0, whichever came first
        self.high = max(self.high, high + 0.0)
        self._widen(_exponent_for(max(-low, high)))
        self.zeros += int(np.count_nonzero(values == 0))  # numpy counts booleans ten times as fast
        scaled = values * np.float32(math.ldexp(1.0, -self.exponent))
        bins = scaled.astype(np.int32)  # truncates; to int64 at once would not be vectorized
        if low >= 0:
            bins += _ALTERNATE[: bins.size]
            both = np.bincount(bins, minlength=2 * BINS)
            self.counts[BINS - 1 :] += both[:BINS] + both[BINS:]
        else:
            bins += BINS - 1
            self.counts += np.bincount(bins, minlength=2 * BINS - 1)

    def merge(self, other: _Seen) -> None:
        """Take in what ``other`` has counted."""
        self._widen(other.exponent)
        self.counts += _coarser(other.counts, self.exponent - other.exponent)
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.zeros += other.zeros
        self.nonfinite += other.nonfinite

    def _widen(self, exponent: int) -> None:
        if exponent > self.exponent:
            self.counts = _coarser(self.counts, exponent - self.exponent)
            self.exponent = exponent


def _exponent_for(magnitude: float) -> int:
    """The smallest exponent ``e`` for which ``magnitude < BINS · 2^e``."""
    if magnitude == 0:
        return LOWEST_EXPONENT
    return max(LOWEST_EXPONENT, math.frexp(magnitude)[1] - BINS.bit_length() + 1)


def _coarser(counts: np.ndarray, doublings: int) -> np.ndarray:
    """The same counts over bins ``2^doublings`` times as wide."""
    if not doublings:
        return counts
    bins = np.arange(1 - BINS, BINS)
    target = np.sign(bins) * (np.abs(bins) >> min(doublings, 62)) + BINS - 1
    found = np.zeros_like(counts)
    np.add.at(found, target, counts)
    return found


def observed(histogram: Histogram) -> Histogram:
    """``histogram``, if it has seen a finite value.

    Raises:
        QuantizationError: It has not.
    """
    if not histogram.count:
        raise QuantizationError(
            "nothing was observed of the tensor, so it has no range; give calibration data"
        )
    return histogram
