"""How far one array is from another."""

from __future__ import annotations

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class OutputKind:
    """What must be known of an output to judge an error in it."""

    class_scores: bool = False
    """Whether the last axis holds the scores of classes."""
    full_scale: float = 0.0
    """The range of the function that made it, where that is bounded: 1 for Sigmoid, Softmax
    and Tanh. Evaluating these rounds on the scale of the range, however small the value."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """The distance of a computed output from the reference, the worst over several samples.

    For outputs that are not floating point every metric but ``max_absolute`` is that of
    equality: the error is 0 where all elements are equal and infinite elsewhere.
    """

    max_absolute: float
    """``max|a-b|``."""
    max_relative: float
    """``max|a-b| / max(max|b|, full_scale)``: normwise, so that elements near zero do not
    dominate, nor saturated outputs (see :class:`OutputKind`)."""
    sqnr_db: float
    """Signal to quantization noise, ``10·log10(Σb² / Σ(a-b)²)``; infinite where equal."""
    cosine: float
    """Cosine similarity of the flattened arrays."""
    top1: float | None = None
    """Share of rows with the same largest element; ``None`` where rows are no class scores."""

    def worse(self, other: Difference) -> Difference:
        """The worse of both in every metric; ``top1`` is the lower of both."""
        rates = [rate for rate in (self.top1, other.top1) if rate is not None]
        return Difference(
            max_absolute=max(self.max_absolute, other.max_absolute),
            max_relative=max(self.max_relative, other.max_relative),
            sqnr_db=min(self.sqnr_db, other.sqnr_db),
            cosine=min(self.cosine, other.cosine),
            top1=min(rates) if rates else None,
        )


EQUAL = Difference(0.0, 0.0, math.inf, 1.0)
UNEQUAL = Difference(math.inf, math.inf, -math.inf, -1.0)
PLAIN = OutputKind()


def difference(computed: object, reference: object, kind: OutputKind = PLAIN) -> Difference:
    """Compare one output with its reference.

    Args:
        computed: A numpy array, or nested lists and dictionaries of them (sequences, maps).
        reference: The same structure.
        kind: What is known of the output.

    Another shape or type, or a NaN or infinity in another place, is an infinite error.
    """
    if reference is None or computed is None:
        return EQUAL if computed is reference else UNEQUAL
    if isinstance(reference, dict) and isinstance(computed, dict):
        if reference.keys() != computed.keys():
            return UNEQUAL
        return _worst([difference(computed[k], reference[k], kind) for k in reference])
    if isinstance(reference, list) and isinstance(computed, list):
        if len(reference) != len(computed):
            return UNEQUAL
        return _worst([difference(a, b, kind) for a, b in zip(computed, reference, strict=True)])
    a, b = np.asarray(computed), np.asarray(reference)
    if a.shape != b.shape or a.dtype != b.dtype:
        return UNEQUAL
    if not is_floating(b.dtype):
        return EQUAL if np.array_equal(a, b) else UNEQUAL
    found = _distance(_wide(a), _wide(b), kind.full_scale)
    if kind.class_scores and b.ndim and b.size:
        agree = float(np.mean(np.argmax(a, axis=-1) == np.argmax(b, axis=-1)))
        found = dataclasses.replace(found, top1=agree)
    return found


def is_floating(dtype: np.dtype) -> bool:
    """Whether ``dtype`` is a real or complex floating-point type, ml_dtypes' included."""
    return dtype.kind in "fc" or dtype.name.startswith(("bfloat", "float"))


def _worst(differences: list[Difference]) -> Difference:
    worst = EQUAL
    for found in differences:
        worst = worst.worse(found)
    return worst


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _distance(a: np.ndarray, b: np.ndarray, full_scale: float) -> Difference:
    finite = np.isfinite(b)
    if not finite.all():
        # NaN must meet NaN and infinity the same infinity; the rest is measured as usual.
        if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
            return UNEQUAL
        a, b = a[finite], b[finite]
    if not np.isfinite(a).all():
        return UNEQUAL
    error = np.abs(a - b)
    worst = float(error.max(initial=0.0))
    if worst == 0.0:
        return EQUAL
    scale = float(np.abs(b).max(initial=0.0))
    # Scaled before squaring, so that neither huge nor tiny values leave float64.
    if scale == 0.0:
        relative = worst / full_scale if full_scale else math.inf
        return Difference(worst, relative, -math.inf, 0.0)
    noise = float(np.linalg.norm((error / worst).ravel())) * worst
    signal = float(np.linalg.norm((b / scale).ravel())) * scale
    return Difference(
        max_absolute=worst,
        max_relative=worst / max(scale, full_scale),
        sqnr_db=20 * math.log10(signal / noise),
        cosine=_cosine(a, b, scale),
    )


def _cosine(a: np.ndarray, b: np.ndarray, scale: float) -> float:
    x, y = (a / scale).ravel(), (b / scale).ravel()
    length = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(np.vdot(x, y).real) / length if length else 0.0
