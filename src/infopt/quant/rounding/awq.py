"""AWQ: inputs that matter get finer steps, by scaling their weights up before rounding."""

from __future__ import annotations

import dataclasses

import numpy as np

from infopt.errors import QuantizationError
from infopt.quant.affine import Parameters, fake_quantize, quantize
from infopt.quant.granularity import PerBlock
from infopt.quant.rounding.nearest import min_max_parameters, round_to_nearest, search_clips
from infopt.quant.rounding.weight import RoundedWeight, checked, output_error
from infopt.quant.spec import QuantSpec

STEPS = 20
"""Exponents that are tried: 0, 1/20 … 1."""
ROWS = 512
"""Output channels on which exponents are compared."""


def awq(
    weight: np.ndarray,
    moment: np.ndarray,
    magnitude: np.ndarray,
    spec: QuantSpec,
    *,
    clip: bool = True,
) -> RoundedWeight:
    """Scale the columns by ``s = mean|x|^a``, round to nearest, and divide the inputs by ``s``.

    Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration"
    (arXiv:2306.00978): ``a`` is the one of a grid with the least error of the outputs, which the
    second moment tells without running the layer. Then each scale's range is clipped where that
    lessens the error further. ``a = 0`` and no clipping are among what is tried, so the result is
    no worse than rounding to nearest.

    The result's ``input_scale`` is ``s``: fold ``1 / s`` into what produces the inputs (a
    normalization's weights, the layer before), or divide the inputs. To go on with GPTQ, give it
    ``weight * s`` and ``moment / (s sᵀ)``.

    Args:
        weight: ``(out, in)``, finite.
        moment: ``(in, in)``, the mean second moment of the inputs.
        magnitude: ``(in,)``, the mean of ``|x|`` of each input.
        spec: What to quantize to.
        clip: Search for clipping, too.

    Raises:
        QuantizationError: The weight, the moment or the magnitudes cannot be used.
    """
    weight = checked(weight, moment, spec)
    if magnitude.shape != weight.shape[1:] or not np.isfinite(magnitude).all():
        raise QuantizationError(
            f"mean magnitudes of {weight.shape[1]} inputs expected, got shape "
            f"{list(magnitude.shape)}, or values that are not finite"
        )
    nearest = round_to_nearest(weight, spec, moment=moment)
    if not weight.size:
        return dataclasses.replace(nearest, input_scale=np.ones(weight.shape[1], np.float32))
    scale = search_scale(weight, moment, magnitude, spec)
    scaled = weight * scale
    found = _rounded(scaled, min_max_parameters(scaled, spec), scale, weight, moment, spec)
    if clip:
        inner = moment / np.outer(scale, scale)
        inner = (inner / (np.diagonal(inner).max() or 1)).astype(np.float32)
        params = search_clips(scaled, spec, lambda difference: _errors(difference, inner, spec))
        clipped = _rounded(scaled, params, scale, weight, moment, spec)
        found = clipped if clipped.error < found.error else found
    if found.error > nearest.error:  # the rows that were compared did not tell
        found = dataclasses.replace(nearest, input_scale=np.ones_like(scale), gave_up=True)
    return dataclasses.replace(found, nearest_error=nearest.error)


def search_scale(
    weight: np.ndarray, moment: np.ndarray, magnitude: np.ndarray, spec: QuantSpec
) -> np.ndarray:
    """float32 ``(in,)``: the best of ``magnitude^a``, normalized so that its ends multiply to 1."""
    rows = weight[:: -(-weight.shape[0] // ROWS)]
    positive = magnitude[magnitude > 0]
    if not positive.size:
        return np.ones(weight.shape[1], np.float32)
    # An input that is nearly always 0 would be scaled down so far that its weights round to 0.
    base = np.maximum(magnitude / positive.mean(), 1e-4)
    best, least = np.ones(weight.shape[1], np.float32), np.inf
    for alpha in np.linspace(0, 1, STEPS + 1):
        scale = base**alpha
        scale = (scale / np.sqrt(scale.max() * scale.min())).astype(np.float32)
        scaled = rows * scale
        back = fake_quantize(scaled, min_max_parameters(scaled, spec), spec) / scale
        error = output_error(rows - back, moment)
        if error < least:
            best, least = scale, error
    return best


def _rounded(
    scaled: np.ndarray,
    params: Parameters,
    scale: np.ndarray,
    weight: np.ndarray,
    moment: np.ndarray,
    spec: QuantSpec,
) -> RoundedWeight:
    found = RoundedWeight(quantize(scaled, params, spec), params, spec, 0.0, 0.0, scale)
    return dataclasses.replace(found, error=output_error(weight - found.effective(), moment))


def _errors(difference: np.ndarray, moment: np.ndarray, spec: QuantSpec) -> np.ndarray:
    """The error of the outputs that each scale's own columns cause, in the scales' shape."""
    if not isinstance(spec.granularity, PerBlock):
        return spec.granularity.reduce(difference * (difference @ moment), np.add)
    block, size = spec.granularity.block, difference.shape[1]
    product = np.empty_like(difference)
    for start in range(0, size, block):
        own = slice(start, start + block)
        product[:, own] = difference[:, own] @ moment[own, own]
    return spec.granularity.reduce(product * difference, np.add)
