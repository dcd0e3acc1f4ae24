"""The user's own metric: how good outputs are, as one number."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from infopt.errors import UsageError
from infopt.evidence.data import function_of
from infopt.evidence.equivalence import Inputs

Outputs = Mapping[str, Any]
MetricSource = str | Callable[[Sequence[Outputs], Sequence[Inputs]], float]
"""``module:function``, or the function: outputs and inputs of all samples, in the order of the
data → a number; higher is better."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """A function of the outputs for all samples; higher is better."""

    name: str
    function: Callable[[Sequence[Outputs], Sequence[Inputs]], float]

    def __call__(self, outputs: Sequence[Outputs], inputs: Sequence[Inputs]) -> float:
        """The number.

        Raises:
            UsageError: The function fails, or returns something else.
        """
        try:
            found = self.function(outputs, inputs)
        except Exception as error:
            raise UsageError(
                f"the metric {self.name} failed with {type(error).__name__}: {error}; it is "
                "called with two lists, of outputs and of inputs, a dictionary for each sample"
            ) from error
        number = isinstance(found, (int, float, np.integer, np.floating))
        number = number and not isinstance(found, bool)
        if not number or not math.isfinite(found):
            shown = f"{found}" if number else f"a {type(found).__name__}"
            raise UsageError(
                f"the metric {self.name} returned {shown}; it must return a finite number, "
                "higher where outputs are better"
            )
        return float(found)


def metric_of(source: MetricSource | None) -> Metric | None:
    """The metric that the user names.

    Raises:
        UsageError: There is no such function.
    """
    if source is None:
        return None
    if callable(source):
        return Metric(getattr(source, "__name__", "function"), source)
    if not isinstance(source, str) or ":" not in source:
        raise UsageError(f"metric {source!r}: write module:function")
    return Metric(source, function_of(source, "metric"))
