"""SecondMoment: which inputs of a linear layer vary together, for GPTQ and AWQ."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from infopt.errors import QuantizationError
from infopt.quant.statistics.state import read, require

_SAFE = 1e15
"""Squares of larger numbers may leave float32 when they are added up."""


class SecondMoment:
    """``Σ xᵀx`` over rows ``x`` of ``features`` inputs: what the error of a product depends on.

    With weights ``W`` (out, in) and ``Ŵ`` for them, ``Σ |(Ŵ - W) x|² = tr((Ŵ - W) H (Ŵ - W)ᵀ)``
    where ``H`` is that sum.

    Products of one update are float32 (of its rows alone), sums over updates float64. So batches
    and order change the result, but by rounding only: about 1e-7 of the largest entries.
    Rows with a value that is not finite are counted apart and left out.

    Args:
        features: Size of the last axis of the arrays.
    """

    def __init__(self, features: int) -> None:
        self.features = features
        self._sum = np.zeros((features, features))
        self._rows = 0
        self._nonfinite = 0

    @property
    def rows(self) -> int:
        """How many rows were added."""
        return self._rows

    @property
    def nonfinite(self) -> int:
        """How many rows were left out for NaN or infinite values."""
        return self._nonfinite

    @property
    def mean(self) -> np.ndarray:
        """float64 ``(features, features)``: ``Σ xᵀx / rows``.

        Raises:
            QuantizationError: Nothing was observed.
        """
        if not self._rows:
            raise QuantizationError("no row was observed; give calibration data")
        return self._sum / self._rows

    def update(self, array: np.ndarray) -> None:
        """Add the rows of ``array``: floating point ``(…, features)``.

        Raises:
            QuantizationError: The last axis has another size.
        """
        if not array.ndim or array.shape[-1] != self.features:
            raise QuantizationError(
                f"rows of {self.features} features expected, got shape {list(array.shape)}"
            )
        with np.errstate(over="ignore"):
            rows = array.reshape(-1, self.features).astype(np.float32, copy=False)
        if not rows.size:
            return
        with np.errstate(invalid="ignore"):
            magnitude = max(-rows.min(), rows.max())
        if not np.isfinite(magnitude):
            finite = np.isfinite(rows).all(axis=1)
            self._nonfinite += int(np.count_nonzero(~finite))
            rows = rows[finite]
            magnitude = np.abs(rows).max(initial=np.float32(0))
        if magnitude > _SAFE:
            rows = rows.astype(np.float64)
        self._sum += rows.T @ rows
        self._rows += rows.shape[0]

    def merge(self, other: SecondMoment) -> None:
        """Add what ``other`` has added.

        Raises:
            QuantizationError: It has another number of features.
        """
        if other.features != self.features:
            raise QuantizationError(f"{other.features} and {self.features} features do not merge")
        self._sum += other._sum
        self._rows += other._rows
        self._nonfinite += other._nonfinite

    def state(self) -> dict[str, np.ndarray]:
        """All that is known, as arrays to save."""
        return {
            "sum": self._sum.copy(),
            "rows": np.array(self._rows, np.int64),
            "nonfinite": np.array(self._nonfinite, np.int64),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, np.ndarray]) -> SecondMoment:
        """The moment whose ``state`` it is.

        Raises:
            QuantizationError: The arrays are no such state.
        """
        total = read(state, "sum", np.float64, (None, None))
        require(total.shape[0] == total.shape[1], "the sum is not square")
        require(np.isfinite(total).all(), "the sum is not finite")
        found = cls(total.shape[0])
        found._sum = total
        found._rows = int(read(state, "rows", np.int64, ()))
        found._nonfinite = int(read(state, "nonfinite", np.int64, ()))
        require(found._rows >= 0 and found._nonfinite >= 0, "a count is negative")
        return found
