"""How right a peer's outputs are, beside those of the reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.sidebyside import job as files

Outputs = Sequence[np.ndarray]


class WrongOutputs(Exception):
    """Outputs that no figure can be told of."""


def error(computed: Iterable[Outputs], reference: Iterable[Outputs]) -> float:
    """Root of Σ(a-b)² / Σb², over all elements of all samples; the worst output's.

    Raises:
        WrongOutputs: They cannot be compared, or hold what is no number.
    """
    sums: dict[int, tuple[float, float]] = {}
    for found, expected in zip(computed, reference, strict=True):
        check(found, expected)
        for index, (a, b) in enumerate(zip(found, expected, strict=True)):
            exact, wrong = b.astype(np.float64), a.astype(np.float64) - b.astype(np.float64)
            before = sums.get(index, (0.0, 0.0))
            sums[index] = before[0] + _square(wrong), before[1] + _square(exact)
    return max(_ratio(wrong, exact) for wrong, exact in sums.values())


def _ratio(wrong: float, exact: float) -> float:
    if not math.isfinite(wrong):
        raise WrongOutputs("an output holds what is no number")
    if wrong and not exact:
        raise WrongOutputs("an output is not zero where the reference is")
    return math.sqrt(wrong / exact) if wrong else 0.0


def _square(array: np.ndarray) -> float:
    return float(np.sum(array * array))


def check(computed: Outputs, reference: Outputs) -> None:
    """Refuse outputs that cannot be compared.

    Raises:
        WrongOutputs: They are of other shapes, there are more or fewer of them, or they hold what
            is no number where the reference has one.
    """
    found, expected = [a.shape for a in computed], [b.shape for b in reference]
    if found != expected:
        raise WrongOutputs(f"outputs have the shapes {found}, not {expected}")
    if any(
        np.any(np.isfinite(b) & ~np.isfinite(a)) for a, b in zip(computed, reference, strict=True)
    ):
        raise WrongOutputs("an output holds what is no number")


def top1(computed: Iterable[Outputs], reference: Iterable[Outputs]) -> float:
    """How often the same class has the highest score in the first output."""
    same = [
        found[0].argmax(axis=-1) == expected[0].argmax(axis=-1)
        for found, expected in zip(computed, reference, strict=True)
    ]
    return float(np.mean(np.concatenate([rows.ravel() for rows in same])))


def embedding(computed: Iterable[Outputs], reference: Iterable[Outputs]) -> float:
    """Mean cosine of the means of the first output over the sequence: sentence embeddings."""
    cosines = []
    for found, expected in zip(computed, reference, strict=True):
        a, b = (outputs[0].astype(np.float64).mean(axis=1) for outputs in (found, expected))
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosines.append(np.sum(a * b, axis=1) / norms)
    return float(np.mean(np.concatenate(cosines)))


METRICS: dict[str, Callable[[Iterable[Outputs], Iterable[Outputs]], float]] = {
    "top-1": top1,
    "embedding": embedding,
}


def outputs(folder: Path) -> list[list[np.ndarray]]:
    """What a worker wrote for one sample after the other."""
    return [list(files.read(file).values()) for file in sorted(folder.iterdir())]
