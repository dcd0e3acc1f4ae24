"""From what was observed of an activation to the range that its integers should cover."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from infopt.errors import QuantizationError
from infopt.quant.affine import parameters
from infopt.quant.granularity import PerTensor
from infopt.quant.scheme import RangeMethod
from infopt.quant.spec import QuantSpec
from infopt.quant.statistics.histogram import BINS, Histogram, observed

Range = tuple[float, float]
Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Lower and upper ends of candidates → the loss of each."""

PERCENTILE = 99.99
SMOOTHING = 1e-4
"""What an empty cell counts for when values from outside are moved into it; else the divergence
would be infinite."""
DEEPEST = 1 / 64
"""The smallest part of the largest magnitude that is tried as a threshold."""


def find_range(
    histogram: Histogram, method: RangeMethod, spec: QuantSpec, *, percent: float = PERCENTILE
) -> Range:
    """The range that ``method`` finds, no wider than what was observed and 0.

    Args:
        histogram: What was observed; values that were not finite are not in it.
        method: ``min-max``, ``percentile``, ``entropy`` or ``mse``.
        spec: What is quantized to.
        percent: Of ``percentile``: the share of the values that are to lie within the range.

    Raises:
        QuantizationError: Nothing was observed, or ``percent`` is none.
    """
    if method == "percentile":
        return percentile(histogram, spec, percent)
    if method == "entropy":
        return entropy(histogram, spec)
    return mse(histogram, spec) if method == "mse" else min_max(histogram)


def min_max(histogram: Histogram) -> Range:
    """Everything that was seen.

    Raises:
        QuantizationError: Nothing was observed.
    """
    seen = observed(histogram)
    return seen.low, seen.high


def percentile(histogram: Histogram, spec: QuantSpec, percent: float = PERCENTILE) -> Range:
    """The range outside of which at most ``100 - percent`` % of the values lie.

    With a symmetric spec these are the largest in magnitude. Otherwise each sign gives up half of
    that share, or one sign all of it if there is no other. Ends are those of bins: no more than
    1/2048 of the largest magnitude farther out than they need to be.

    Raises:
        QuantizationError: Nothing was observed, or ``percent`` is not within (0, 100].
    """
    seen = observed(histogram)
    if not 0 < percent <= 100:
        raise QuantizationError(f"a percentile lies within (0, 100], not {percent:g}")
    if percent == 100:
        return seen.low, seen.high
    outside = (100 - percent) / 100 * seen.count * (1 + 1e-9)  # 100 - 99.9 is a little under 0.1
    above, below = seen.counts[BINS - 1 :], seen.counts[BINS - 1 :: -1]
    if spec.symmetric:
        both = above + below
        both[0] = above[0]  # bin 0 is in both
        most = least = _end(both, outside) * seen.width
    else:
        outside /= 2 if seen.low < 0 < seen.high else 1
        least, most = (_end(counts, outside) * seen.width for counts in (below, above))
    return max(min(seen.low, 0.0), -least), min(max(seen.high, 0.0), most)


def entropy(histogram: Histogram, spec: QuantSpec) -> Range:
    """The range that keeps most of the distribution's information.

    The Kullback-Leibler divergence of Migacz, "8-bit Inference with TensorRT" (GTC 2017): *P* is
    what is seen with all that lies outside moved to the ends, *Q* what is left of the inside when
    each cell of the quantization grid knows only its sum, spread evenly over the bins that are
    not empty. As there, one threshold clips both signs. Zeros take no part: they are exact in any
    range.

    Raises:
        QuantizationError: Nothing was observed.
    """
    seen = observed(histogram)
    score = functools.partial(_divergence, _Bins.of(seen), spec)
    # A cell of less than a bin says nothing, as Q is then P: a range has as many bins as cells.
    cells = spec.grid().size / 2 * seen.width
    deepest = max(DEEPEST, cells / max(-seen.low, seen.high, cells))
    return _search(score, seen, deepest, each_end=False)


def mse(histogram: Histogram, spec: QuantSpec) -> Range:
    """The range with the smallest expected squared error of quantization and clipping.

    Raises:
        QuantizationError: Nothing was observed.
    """
    seen = observed(histogram)
    score = functools.partial(_squared_error, _Bins.of(seen), spec)
    return _search(score, seen, DEEPEST, each_end=not spec.symmetric)


_CENTERS = np.arange(-BINS, BINS) + 0.5


@dataclasses.dataclass(frozen=True)
class _Bins:
    """Sums over the first ``n`` bins, for all ``n``; bin 0 is cut into its two halves.

    With them the sum over any cell of a grid is one subtraction, so a candidate costs as much as
    its grid has cells, however many bins there are.
    """

    counts: np.ndarray
    width: float

    @functools.cached_property
    def total(self) -> np.ndarray:
        """Sums of the counts."""
        return _sums(self.counts)

    @functools.cached_property
    def first(self) -> np.ndarray:
        """Sums of the values, in widths, so that neither huge nor tiny ones leave float64."""
        return _sums(self.counts * _CENTERS)

    @functools.cached_property
    def second(self) -> np.ndarray:
        """Sums of the values' squares."""
        return _sums(self.counts * _CENTERS * _CENTERS)

    @functools.cached_property
    def information(self) -> np.ndarray:
        """Sums of ``n · log n``."""
        return _sums(_n_log_n(self.counts))

    @functools.cached_property
    def occupied(self) -> np.ndarray:
        """How many bins are not empty."""
        return _sums(np.minimum(self.counts, 1))

    @classmethod
    def of(cls, histogram: Histogram) -> _Bins:
        counts = np.empty(2 * BINS)
        counts[:BINS], counts[BINS:] = histogram.counts[:BINS], histogram.counts[BINS - 1 :]
        near = counts[BINS - 1] - histogram.zeros
        above = 0.0 if histogram.high <= 0 else near if histogram.low >= 0 else near / 2
        counts[BINS - 1 : BINS + 1] = near - above, above
        return cls(counts, histogram.width)

    def cuts(self, ends: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """How many bins have their center below each of ``ends``, between ``start`` and ``stop``.

        Args:
            ends: ``(candidates, cells - 1)``, ascending.
            start: ``(candidates,)``, what stands before the first.
            stop: ``(candidates,)``, what stands behind the last.
        """
        found = np.empty((ends.shape[0], ends.shape[1] + 2), np.intp)
        found[:, 0], found[:, -1] = start, stop
        bins = ends / self.width
        bins += BINS - 0.5
        np.ceil(bins, out=bins)
        np.clip(bins, start[:, None], stop[:, None], out=bins)
        found[:, 1:-1] = bins
        return found


def _squared_error(bins: _Bins, spec: QuantSpec, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The sum of ``(x - x̂)²`` over all values, in squared widths, for each candidate."""
    values, ends = _cells(spec, low, high)
    start = np.zeros(len(low), np.intp)
    cuts = bins.cuts(ends, start, start + 2 * BINS)
    values /= bins.width
    sums = values * np.diff(bins.total.take(cuts)) - 2 * np.diff(bins.first.take(cuts))
    return np.asarray(bins.second[-1] + np.einsum("ij,ij->i", sums, values))


def _divergence(bins: _Bins, spec: QuantSpec, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """``KL(P ‖ Q)`` for each candidate."""
    _, ends = _cells(spec, low, high)
    # From the bin that holds the lower end to that of the upper one, both included.
    start = np.clip(np.floor(low / bins.width) + BINS, 0, 2 * BINS - 1).astype(np.intp)
    stop = np.clip(np.ceil(high / bins.width) + BINS, start + 1, 2 * BINS).astype(np.intp)
    cuts = bins.cuts(ends, start, stop)
    sums, occupied = np.diff(bins.total.take(cuts)), np.diff(bins.occupied.take(cuts))
    everything = bins.total[-1]
    inside = bins.total[stop] - bins.total[start]
    if everything == 0:  # nothing but zeros
        return np.zeros(len(low))
    information = bins.information[stop] - bins.information[start]
    moved = sums.copy()
    rows = np.arange(len(low))
    for last, outside in ((start, bins.total[start]), (stop - 1, everything - bins.total[stop])):
        cell = np.count_nonzero(cuts[:, 1:] <= last[:, None], axis=1)
        count = bins.counts[last]
        moved[rows, cell] += outside
        occupied[rows, cell] += (count == 0) & (outside > 0)
        information += _n_log_n(count + outside) - _n_log_n(count)
    np.maximum(sums, SMOOTHING, out=sums)
    sums /= np.maximum(occupied, 1, out=occupied)
    cross = np.einsum("ij,ij->i", moved, np.log(sums, out=sums))
    return np.asarray(
        (information - cross) / everything + np.log(np.maximum(inside, SMOOTHING) / everything)
    )


def _search(score: Score, seen: Histogram, deepest: float, *, each_end: bool) -> Range:
    """The candidate with the lowest score: one threshold for both signs, then ``each_end``."""
    lowest, highest = min(seen.low, 0.0), max(seen.high, 0.0)
    most = max(-lowest, highest)
    if most == 0:
        return lowest, highest

    def both(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.maximum(lowest, -parts * most), np.minimum(highest, parts * most)

    part = _lowest(lambda parts: score(*both(parts)), deepest)
    low, high = (float(end) for end in both(np.array(part)))
    if not (each_end and low < 0 < high):
        return low, high
    low *= _lowest(lambda parts: score(low * parts, np.full(parts.size, high)), 1 / 8, 16)
    high *= _lowest(lambda parts: score(np.full(parts.size, low), high * parts), 1 / 8, 16)
    return low, high


def _lowest(
    score: Callable[[np.ndarray], np.ndarray], deepest: float, candidates: int = 48
) -> float:
    """The part of 1 with the lowest score, of ``candidates`` and then around the best of them."""
    parts = deepest ** np.linspace(0, 1, candidates)
    best = int(np.argmin(score(parts)))
    finer = np.linspace(parts[max(best - 1, 0)], parts[min(best + 1, parts.size - 1)], 11)
    finer = np.append(finer, parts[best])
    return float(finer[np.argmin(score(finer))])


def _cells(spec: QuantSpec, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The numbers that candidates can represent, ascending, and where rounding changes over."""
    params = parameters(low, high, dataclasses.replace(spec, granularity=PerTensor()))
    grid = spec.grid() - params.zero_point.astype(np.float64)[:, None]
    values = grid * params.scale.astype(np.float64)[:, None]
    ends = values[:, :-1] + values[:, 1:]
    ends /= 2
    return values, ends


def _end(counts: np.ndarray, outside: float) -> int:
    """How many leading bins are needed for at most ``outside`` values to lie behind them."""
    behind = np.cumsum(counts[::-1])
    return counts.size - int(np.searchsorted(behind, outside, side="right"))


def _sums(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values)])


def _n_log_n(counts: np.ndarray) -> np.ndarray:
    return np.asarray(counts * np.log(np.maximum(counts, 1.0)))
