"""ChannelStatistics: range and means of each channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from infopt.errors import QuantizationError
from infopt.quant.granularity import normal_axis
from infopt.quant.statistics.exact import TERMS, UNITS, ExactSum, cuts
from infopt.quant.statistics.state import read, require

CHUNK = 1 << 15
"""Elements taken at once, so that they stay in a core's cache."""


class ChannelStatistics:
    """What smoothing, equalization, AWQ and bias correction need to know of an activation.

    All figures are exact, or the rounding of an exact one, so they depend on the multiset of each
    channel's values only. Values that are not finite are counted apart and left out. float64 is
    rounded to float32.

    Args:
        axis: The axis of the channels: -1 for ``(…, features)``, 1 for ``(n, channels, h, w)``.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self._seen: _Seen | None = None

    @property
    def observed(self) -> bool:
        """Whether any array was observed: only then is it known how many channels there are."""
        return self._seen is not None

    @property
    def low(self) -> np.ndarray:
        """float32 ``(channels,)``: the smallest value; infinite for a channel without any."""
        return self._known().low

    @property
    def high(self) -> np.ndarray:
        """float32 ``(channels,)``: the largest value."""
        return self._known().high

    @property
    def magnitude(self) -> np.ndarray:
        """float32 ``(channels,)``: ``max|x|``; 0 for a channel without values."""
        seen = self._known()
        return np.maximum(np.maximum(-seen.low, seen.high), np.float32(0))

    @property
    def count(self) -> np.ndarray:
        """int64 ``(channels,)``: how many finite values there were."""
        return self._known().count

    @property
    def nonfinite(self) -> int:
        """How many values were NaN or infinite."""
        return 0 if self._seen is None else self._seen.nonfinite

    @property
    def mean(self) -> np.ndarray:
        """float64 ``(channels,)``: the correctly rounded mean; 0 for a channel without values."""
        seen = self._known()
        return seen.total.divided(seen.count)

    @property
    def mean_magnitude(self) -> np.ndarray:
        """float64 ``(channels,)``: the correctly rounded mean of ``|x|``."""
        seen = self._known()
        return seen.absolute.divided(seen.count)

    def update(self, array: np.ndarray) -> None:
        """Observe ``array``: floating point, with the channels on ``axis``.

        Raises:
            QuantizationError: It has another number of channels than those before.
        """
        axis = normal_axis(self.axis, array.shape)
        before = math.prod(array.shape[:axis])
        blocks = array.reshape(before, array.shape[axis], -1 if array.size else 0)
        seen = self._for(array.shape[axis])
        for values in _chunks(blocks):
            seen.add(values)
        seen.total.carry()
        seen.absolute.carry()

    def merge(self, other: ChannelStatistics) -> None:
        """Take in what ``other`` has observed, as if this one had seen it all.

        Raises:
            QuantizationError: It observed another axis or number of channels.
        """
        if other.axis != self.axis:
            raise QuantizationError(f"channels on axis {other.axis} and {self.axis} do not merge")
        if other._seen is None:
            return
        mine, its = self._for(other._seen.low.size), other._seen
        np.minimum(mine.low, its.low, out=mine.low)
        np.maximum(mine.high, its.high, out=mine.high)
        mine.count += its.count
        mine.nonfinite += its.nonfinite
        mine.total.merge(its.total)
        mine.absolute.merge(its.absolute)

    def state(self) -> dict[str, np.ndarray]:
        """All that is known, as arrays to save."""
        seen = _Seen(0) if self._seen is None else self._seen
        return {
            "axis": np.array(self.axis, np.int64),
            "low": seen.low.copy(),
            "high": seen.high.copy(),
            "count": seen.count.copy(),
            "nonfinite": np.array(seen.nonfinite, np.int64),
            "total": seen.total.digits.copy(),
            "absolute": seen.absolute.digits.copy(),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> ChannelStatistics:
        """The statistics whose ``state`` it is.

        Raises:
            QuantizationError: The arrays are no such state.
        """
        found = cls(int(read(state, "axis", np.int64, ())))
        low = read(state, "low", np.float32, (None,))
        if not low.size:
            return found
        seen = found._for(low.size)
        seen.low, seen.high = low, read(state, "high", np.float32, low.shape)
        seen.count = read(state, "count", np.int64, low.shape)
        seen.nonfinite = int(read(state, "nonfinite", np.int64, ()))
        seen.total.digits = read(state, "total", np.int64, (len(UNITS), low.size))
        seen.absolute.digits = read(state, "absolute", np.int64, (len(UNITS), low.size))
        require(seen.count.min() >= 0 and seen.nonfinite >= 0, "a count is negative")
        some = seen.count > 0
        require(np.array_equal(seen.low <= seen.high, some), "a range without values")
        require(np.isfinite(seen.low[some]).all(), "a range is infinite")
        require(np.isfinite(seen.high[some]).all(), "a range is infinite")
        return found

    def _known(self) -> _Seen:
        if self._seen is None:
            raise QuantizationError("nothing was observed of the tensor; give calibration data")
        return self._seen

    def _for(self, channels: int) -> _Seen:
        if self._seen is None:
            self._seen = _Seen(channels)
        if self._seen.low.size != channels:
            raise QuantizationError(
                f"the tensor has {channels} channels on axis {self.axis}, before it had "
                f"{self._seen.low.size}; give the axis that does not change"
            )
        return self._seen


class _Seen:
    """The running figures of some channels."""

    def __init__(self, channels: int) -> None:
        self.low = np.full(channels, np.inf, np.float32)
        self.high = np.full(channels, -np.inf, np.float32)
        self.count = np.zeros(channels, np.int64)
        self.nonfinite = 0
        self.total = ExactSum(channels)
        self.absolute = ExactSum(channels)

    def add(self, values: np.ndarray) -> None:
        """Observe ``(n, channels, m)``, at most ``TERMS`` values a channel."""
        with np.errstate(over="ignore", invalid="ignore"):
            values = values.astype(np.float32, copy=False)
            low, high = values.min(axis=(0, 2)) + 0, values.max(axis=(0, 2)) + 0
        count = np.full(low.size, values.shape[0] * values.shape[2])
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            finite = np.isfinite(values)
            low = values.min(axis=(0, 2), where=finite, initial=np.float32(np.inf)) + 0
            high = values.max(axis=(0, 2), where=finite, initial=np.float32(-np.inf)) + 0
            count = np.count_nonzero(finite, axis=(0, 2))
            self.nonfinite += values.size - int(count.sum())
            values = np.where(finite, values, np.float32(0))
        np.minimum(self.low, low, out=self.low)
        np.maximum(self.high, high, out=self.high)
        self.count += count
        largest = max(float(-low.min()), float(high.max()), 0.0)
        for unit, sums, magnitudes in cuts(values, largest):
            self.total.add(sums, unit)
            self.absolute.add(magnitudes, unit)


def _chunks(blocks: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of ``(n, channels, m)`` of about ``CHUNK`` elements and at most ``TERMS`` rows."""
    n, channels, m = blocks.shape
    across = max(1, min(m, CHUNK // max(channels, 1), TERMS))
    down = max(1, min(CHUNK // max(channels * across, 1), TERMS // across))
    for start in range(0, n, down):
        for column in range(0, m, across):
            part = blocks[start : start + down, :, column : column + across]
            if part.size:
                yield part
