"""What a mixed precision has to hold: a bound on the error of outputs, or on a metric's loss."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from infopt.errors import UsageError
from infopt.evidence.equivalence import Budget
from infopt.tuning.metric import Metric, MetricSource, metric_of


@dataclasses.dataclass(frozen=True)
class Limits:
    """When to keep nodes in float, and until when."""

    error: Budget
    """How far an output may be from the original."""
    drop: float | None = None
    """How much of the metric may be lost."""
    metric: Metric | None = None

    def __str__(self) -> str:
        """What has to hold, in words."""
        words = []
        if math.isfinite(self.error.tolerance):
            words.append(f"a relative error of {self.error.tolerance:.3g}")
        if math.isfinite(self.error.least_sqnr):
            words.append(f"{self.error.least_sqnr:g} dB")
        if self.metric is not None:
            words.append(f"a loss of {self.drop:g} of {self.metric.name}")
        return " and ".join(words)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; bounds that were not asked for are left out."""
        found: dict[str, Any] = {}
        if math.isfinite(self.error.tolerance):
            found["max_relative"] = self.error.tolerance
        if math.isfinite(self.error.least_sqnr):
            found["sqnr_db"] = self.error.least_sqnr
        if self.metric is not None:
            found |= {"drop": self.drop, "metric": self.metric.name}
        return found


def limits(
    max_error: float | str | None,
    max_drop: float | None,
    metric: MetricSource | None,
    *,
    usual: Budget,
    data: bool,
) -> Limits | None:
    """The limits that the user sets; ``None`` where nothing is to be kept in float.

    Args:
        max_error: The largest relative error ``max|a-b| / max|b|`` of an output, ``0.05``; or how
            far noise has to be below the signal, in decibels, ``"25dB"``.
        max_drop: How much of the metric may be lost.
        metric: The metric.
        usual: What has to hold besides.
        data: Whether there is data.

    Raises:
        UsageError: A figure makes no sense, or half of what is needed is missing.
    """
    if (max_drop is None) != (metric is None):
        raise UsageError(
            "a drop is one of a metric: give both --max-drop and --metric MODULE:FUNCTION"
        )
    if max_drop is not None and not max_drop >= 0:
        raise UsageError(f"the drop must be a number of at least 0, not {max_drop}")
    if metric is not None and not data:
        raise UsageError("a metric says nothing about made-up inputs; give --data")
    if max_error is None and max_drop is None:
        return None
    asked = Budget(math.inf) if max_error is None else _error(max_error)
    both = Budget(min(asked.tolerance, usual.tolerance), max(asked.least_sqnr, usual.least_sqnr))
    return Limits(both, max_drop, metric_of(metric))


def _error(bound: float | str) -> Budget:
    match = re.fullmatch(r"\s*([-+.\de]+)\s*(db)?\s*", str(bound), re.IGNORECASE)
    try:
        number = float(match[1]) if match else math.nan
    except ValueError:
        number = math.nan
    decibels = match is not None and match[2] is not None
    if not math.isfinite(number) or (number < 0 and not decibels):
        raise UsageError(
            f"the error {bound!r} is no bound; write a relative error, 0.05, or decibels, 25dB"
        )
    return Budget(math.inf, number) if decibels else Budget(number)
