"""Does the same session compute the same from the same inputs, time and again?

Memory that is read before it is written, and kernels that race, show up as outputs that change. So
do sums whose order is left to chance; these change by a rounding.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from infopt.evidence.equivalence import Runner, Sample
from infopt.evidence.metrics import difference

TIMES = 10
BOUND = 1e-2
"""The largest ``max|a-b| / max|b|`` between two runs: some roundings of bfloat16, the coarsest type
to which sums are rounded."""


@dataclasses.dataclass(frozen=True)
class Repeats:
    """How far runs on the same inputs came out apart."""

    times: int
    samples: tuple[str, ...]
    bound: float
    """The largest relative difference that is allowed."""
    worst: dict[str, float]
    """Output → its largest relative difference to the first run, where its bits differ."""

    @property
    def holds(self) -> bool:
        """Whether no output changed by more than the bound."""
        return all(found <= self.bound for found in self.worst.values())

    def as_dict(self) -> dict[str, Any]:
        """For manifests; outputs that differ are notes, which ``strict`` does not let pass."""
        notes = [
            f"{name} differs by {found:.1e} from run to run" for name, found in self.worst.items()
        ]
        return {**dataclasses.asdict(self), "identical": not self.worst, "notes": notes}


def repeat(
    run: Runner, samples: Sequence[Sample], *, skip: Collection[str] = (), times: int = TIMES
) -> Repeats:
    """Run each sample several times, and compare all runs with the first, bit by bit.

    Runs take turns among the samples, so that what one leaves behind meets the next.

    Args:
        run: Computes outputs.
        samples: On which inputs.
        skip: Outputs that the model itself computes differently each time.
        times: How often.
    """
    worst: dict[str, float] = {}
    first = [copy.deepcopy(run(sample.inputs)) for sample in samples]
    for _ in range(times - 1):
        for sample, expected in zip(samples, first, strict=True):
            for name, found in run(sample.inputs).items():
                if name not in skip and not _same(found, expected[name]):
                    apart = difference(found, expected[name]).max_relative
                    worst[name] = max(worst.get(name, 0.0), apart)
    described = tuple(f"{sample.origin}: {sample.shapes()}" for sample in samples)
    return Repeats(times, described, BOUND, worst)


def _same(found: object, expected: object) -> bool:
    """Whether two outputs are the same to the bit."""
    if not isinstance(found, np.ndarray) or not isinstance(expected, np.ndarray):
        return difference(found, expected).max_absolute == 0  # sequences and maps
    alike = found.shape == expected.shape and found.dtype == expected.dtype
    return alike and found.tobytes() == expected.tobytes()
