"""Cross-layer equalization: channels of one layer get ranges alike, the next layer undoes it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from infopt.errors import QuantizationError

ROUNDS = 40
"""Sweeps over a chain, at most; a pair needs one."""
SETTLED = 1e-3
"""Factors that change by less than this part are settled."""
BOUND = 2.0**20
"""No factor is larger than this or smaller than its inverse."""


@dataclasses.dataclass(frozen=True, eq=False)
class Link:
    """A layer of a chain."""

    weight: np.ndarray
    """``(out, in / groups, *kernel)``; a linear layer has no kernel."""
    groups: int = 1
    """Groups of a convolution; as many as channels for a depthwise one."""


def equalize(chain: Sequence[Link]) -> list[np.ndarray]:
    """Factors between consecutive layers, for which channels have the same range on both sides.

    Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction"
    (arXiv:1906.04721): for the channel ``i`` between two layers ``s = sqrt(r₁ / r₂)`` with the
    largest magnitudes ``r₁`` of the weights that write it and ``r₂`` of those that read it. Divide
    the first layer's rows and bias by ``s``, multiply the second layer's columns by it. What lies
    between must commute with a positive factor: nothing, ReLU, PReLU, MaxPool, and the like.

    Args:
        chain: Two layers or more; each one's outputs are the inputs of the next.

    Returns:
        For each pair of neighbours float32 ``(channels,)``; 1 where a channel is all 0 on one
        side.

    Raises:
        QuantizationError: The channels of neighbours do not fit, or a weight is not finite.
    """
    sizes = [_magnitudes(link) for link in chain]
    for first, second in itertools.pairwise(sizes):
        writes, reads = first.shape[0] * first.shape[1], second.shape[0] * second.shape[2]
        if writes != reads:
            raise QuantizationError(f"a layer of {writes} outputs precedes one of {reads} inputs")
    factors = [np.ones(size.shape[0] * size.shape[1]) for size in sizes[:-1]]
    for _ in range(ROUNDS):
        moved = 0.0
        for index, factor in enumerate(factors):
            first, second = sizes[index], sizes[index + 1]
            writes, reads = first.max(axis=2).ravel(), second.max(axis=1).ravel()
            some = (writes > 0) & (reads > 0)
            step = np.ones_like(factor)
            step[some] = np.sqrt(writes[some]) / np.sqrt(reads[some])
            step = np.clip(factor * step, 1 / BOUND, BOUND) / factor
            factor *= step
            first /= step.reshape(first.shape[0], first.shape[1], 1)
            second *= step.reshape(second.shape[0], 1, second.shape[2])
            moved = max(moved, float(np.abs(step - 1).max(initial=0.0)))
        if moved < SETTLED:
            break
    return [factor.astype(np.float32) for factor in factors]


def _magnitudes(link: Link) -> np.ndarray:
    """``(groups, out / groups, in / groups)``: the largest ``|w|`` of each kernel."""
    shape = link.weight.shape
    if len(shape) < 2 or link.groups < 1 or shape[0] % link.groups:
        raise QuantizationError(
            f"weights (out, in / groups, …) expected, got shape {list(shape)} in {link.groups} "
            "groups"
        )
    if not np.isfinite(link.weight).all():
        raise QuantizationError("a weight holds NaN or infinite values; it cannot be equalized")
    largest = np.abs(link.weight.astype(np.float64)).max(
        axis=tuple(range(2, len(shape))), initial=0.0
    )
    return np.asarray(largest.reshape(link.groups, shape[0] // link.groups, shape[1]))
