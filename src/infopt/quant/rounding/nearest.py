"""Rounding to nearest, with scales from minimum and maximum or from a search for less error."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from infopt.quant.affine import (
    Parameters,
    dequantize,
    fake_quantize,
    parameters,
    quantize,
    weight_range,
)
from infopt.quant.rounding.weight import RoundedWeight, checked, output_error
from infopt.quant.spec import QuantSpec

CLIPS = tuple(1 - 0.04 * step for step in range(16))
"""Parts of the range that a search tries: 1 to 0.4."""

GroupError = Callable[[np.ndarray], np.ndarray]
"""A difference of weights → the error of each group that shares a scale."""


def round_to_nearest(
    weight: np.ndarray,
    spec: QuantSpec,
    *,
    search: bool = False,
    moment: np.ndarray | None = None,
) -> RoundedWeight:
    """Each weight becomes the element nearest to it.

    Args:
        weight: ``(out, in)``, finite.
        spec: What to quantize to.
        search: Choose for each scale the clipping (:data:`CLIPS`) with the least squared error of
            the weights; with a second moment, of the outputs as if inputs did not vary together.
        moment: ``(in, in)``, the mean second moment of the inputs.

    Raises:
        QuantizationError: The weight or the moment cannot be used.
    """
    weight = checked(weight, moment, spec)
    params = min_max_parameters(weight, spec)
    quantized = quantize(weight, params, spec)
    error = nearest = output_error(weight - dequantize(quantized, params, spec), moment)
    if search:
        importance = None if moment is None else np.diagonal(moment)
        params = clipped_parameters(weight, spec, importance)
        quantized = quantize(weight, params, spec)
        error = output_error(weight - dequantize(quantized, params, spec), moment)
    return RoundedWeight(quantized, params, spec, error, nearest)


def min_max_parameters(weight: np.ndarray, spec: QuantSpec) -> Parameters:
    """Scales that cover every weight."""
    return parameters(*weight_range(weight, spec.granularity, unsaturated=spec.unsaturated), spec)


def clipped_parameters(
    weight: np.ndarray, spec: QuantSpec, importance: np.ndarray | None = None
) -> Parameters:
    """Scales with the least squared error of the weights, each weighted by its input's importance.

    Args:
        weight: float32 ``(out, in)``.
        spec: What to quantize to.
        importance: ``(in,)``; ``None`` for equal ones.
    """
    weights = None
    if importance is not None:
        weights = (importance / (importance.max(initial=0) or 1)).astype(np.float32)

    def error(difference: np.ndarray) -> np.ndarray:
        difference *= difference
        if weights is not None:
            difference *= weights
        return spec.granularity.reduce(difference, np.add)

    return search_clips(weight, spec, error)


def search_clips(weight: np.ndarray, spec: QuantSpec, error: GroupError) -> Parameters:
    """For each group the clipping of its range that has the least ``error``; no worse than none.

    ``error`` gets differences in steps of the group's whole range, so that their squares neither
    overflow nor vanish, however large the weights are; it may overwrite them.
    """
    low, high = weight_range(weight, spec.granularity, unsaturated=spec.unsaturated)
    best = parameters(low, high, spec)
    steps = spec.granularity.spread(best.scale, weight.shape)
    least = error((weight - fake_quantize(weight, best, spec)) / steps)
    for part in CLIPS[1:]:
        tried = parameters(low * part, high * part, spec)
        found = error((weight - fake_quantize(weight, tried, spec)) / steps)
        better = found < least
        least = np.where(better, found, least)
        best = Parameters(
            np.where(better, tried.scale, best.scale),
            np.where(better, tried.zero_point, best.zero_point),
        )
    return best
