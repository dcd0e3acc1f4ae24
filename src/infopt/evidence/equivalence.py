"""Do two models compute the same?"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from infopt.evidence.metrics import PLAIN, Difference, OutputKind, difference

Inputs = Mapping[str, np.ndarray]
Outputs = Mapping[str, Any]
Runner = Callable[[Inputs], Outputs]
"""Anything that computes named outputs from named inputs."""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One set of inputs, and in words where it comes from."""

    inputs: Inputs
    origin: str

    def shapes(self) -> str:
        """``x=1×3×64×64 mask=1×7``."""
        return " ".join(
            f"{name}={'×'.join(map(str, np.shape(array))) or 'scalar'}"
            for name, array in self.inputs.items()
        )


@dataclasses.dataclass(frozen=True)
class Budget:
    """How far an output may be from the reference, on every sample."""

    tolerance: float
    """The largest ``max_relative`` (see :class:`Difference`)."""
    least_sqnr: float = -math.inf
    """The least ``sqnr_db``."""

    def allows(self, found: Difference) -> bool:
        """Whether a difference stays within it."""
        return found.max_relative <= self.tolerance and found.sqnr_db >= self.least_sqnr


@dataclasses.dataclass(frozen=True)
class Equivalence:
    """The result of a comparison, with all that is needed to judge it."""

    outputs: Mapping[str, Difference]
    """The worst difference of each output over all samples."""
    samples: tuple[str, ...]
    """What was tried: origin and shapes of each sample."""
    tolerance: float
    """The largest ``max_relative`` that was allowed."""
    reference: str
    """What it was compared with, in words."""
    undetermined: tuple[str, ...] = ()
    """Outputs that the reference itself computes differently each time: nothing is shown."""
    failing: tuple[int, ...] = ()
    """Which samples went beyond the budget."""
    least_sqnr: float = -math.inf
    """The least ``sqnr_db`` that was allowed."""
    notes: tuple[str, ...] = ()
    """What could not be tried, and why."""

    @property
    def holds(self) -> bool:
        """Whether every comparable output stayed within the budget on every sample."""
        return not self.failing

    def as_dict(self) -> dict[str, Any]:
        """For manifests and JSON; infinite values become strings there."""
        return {**dataclasses.asdict(self), "holds": self.holds}

    @property
    def worst(self) -> float:
        """The largest ``max_relative`` of any output."""
        return max((found.max_relative for found in self.outputs.values()), default=0.0)


def compare(
    candidate: Runner,
    reference: Runner,
    samples: Iterable[Sample],
    *,
    budget: Budget,
    described: str,
    kinds: Mapping[str, OutputKind] | None = None,
    notes: tuple[str, ...] = (),
) -> Equivalence:
    """Run both on each sample and measure how far the outputs are apart.

    Args:
        candidate: What is to be shown right.
        reference: What is right.
        samples: The inputs to try.
        budget: How far they may be apart.
        described: What the reference is, in words.
        kinds: What is known of each output.
        notes: What the caller could not try, and why.
    """
    kinds = kinds or {}
    outputs: dict[str, Difference] = {}
    undetermined: set[str] = set()
    tried: list[str] = []
    failing: list[int] = []
    for index, sample in enumerate(samples):
        expected = reference(sample.inputs)
        if index == 0:
            again = reference(sample.inputs)
            undetermined = {k for k in expected if difference(again[k], expected[k]).max_absolute}
        computed = candidate(sample.inputs)
        tried.append(f"{sample.origin}: {sample.shapes()}")
        beyond = False
        for name in expected:
            if name in undetermined:
                continue
            found = difference(computed.get(name), expected[name], kinds.get(name, PLAIN))
            outputs[name] = outputs[name].worse(found) if name in outputs else found
            beyond |= not budget.allows(found)
        if beyond:
            failing.append(index)
    return Equivalence(
        outputs=outputs,
        samples=tuple(tried),
        tolerance=budget.tolerance,
        least_sqnr=budget.least_sqnr,
        reference=described,
        undetermined=tuple(sorted(undetermined)),
        failing=tuple(failing),
        notes=notes,
    )
