"""HQQ: scales and zero points that few large errors do not decide, without any data."""

from __future__ import annotations

import numpy as np

from infopt.errors import QuantizationError
from infopt.quant.affine import SMALLEST_SCALE, Parameters, dequantize, quantize
from infopt.quant.rounding.nearest import min_max_parameters, round_to_nearest
from infopt.quant.rounding.weight import RoundedWeight, checked, output_error
from infopt.quant.spec import QuantSpec

NORM = 0.7
"""The exponent of the error: below 1, so that outliers may be wrong and the many are right."""
ROUNDS = 20
BETA, GROWTH = 10.0, 1.01
"""How firmly the weights are held to what was rounded, and its growth from round to round. The
errors are in steps here, so that they mean the same for weights of any size."""


def hqq(weight: np.ndarray, spec: QuantSpec, *, moment: np.ndarray | None = None) -> RoundedWeight:
    """Minimize ``Σ|W - Ŵ|^0.7`` over scales and zero points.

    Badri & Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (Mobius Labs,
    2023): the error is split into a sparse part, found by shrinking it, and a rest, for which the
    zero point has a closed form; both alternate. In the paper zero points are real numbers and
    scales stay. An ONNX zero point is an element, so scales are fitted as well, by least squares.
    Each group keeps the best that it had, so none is worse than rounding to nearest in that norm.

    Args:
        weight: ``(out, in)``, finite.
        spec: An asymmetric integer spec.
        moment: Only to report errors with: ``(in, in)``, the mean second moment of the inputs.

    Raises:
        QuantizationError: The weight cannot be used, or the spec has no zero point.
    """
    weight = checked(weight, moment, spec)
    if spec.symmetric:
        raise QuantizationError("HQQ looks for zero points; make the spec asymmetric")
    nearest = round_to_nearest(weight, spec, moment=moment)
    if not weight.size:
        return nearest
    params = best = min_max_parameters(weight, spec)
    quantized = nearest.quantized
    least = _loss(weight, quantized, params, spec)
    beta = BETA
    for _ in range(ROUNDS):
        scale = spec.granularity.spread(params.scale, weight.shape)
        steps = (weight - dequantize(quantized, params, spec)) / scale
        target = weight - _shrink(steps, beta) * scale
        params = _fit(target, quantized, params, spec)
        quantized = quantize(weight, params, spec)
        loss = _loss(weight, quantized, params, spec)
        better = loss < least
        if not better.any():
            break
        least = np.where(better, loss, least)
        best = Parameters(
            np.where(better, params.scale, best.scale),
            np.where(better, params.zero_point, best.zero_point),
        )
        beta *= GROWTH
    quantized = quantize(weight, best, spec)
    found = output_error(weight - dequantize(quantized, best, spec), moment)
    return RoundedWeight(quantized, best, spec, found, nearest.error)


def _loss(
    weight: np.ndarray, quantized: np.ndarray, params: Parameters, spec: QuantSpec
) -> np.ndarray:
    error = np.abs(weight - dequantize(quantized, params, spec))
    return spec.granularity.reduce(error**NORM, np.add)


def _shrink(error: np.ndarray, beta: float) -> np.ndarray:
    """The proximal operator of ``|·|^NORM``: large errors are left alone, small ones vanish."""
    size = np.abs(error)
    with np.errstate(divide="ignore"):
        taken = size ** (NORM - 1) / np.float32(beta)
    return np.asarray(np.sign(error) * np.maximum(size - taken, np.float32(0)))


def _fit(
    target: np.ndarray, quantized: np.ndarray, params: Parameters, spec: QuantSpec
) -> Parameters:
    """Zero points, then scales, for which the elements come closest to ``target``."""
    groups, codes = spec.granularity, quantized.astype(np.float32)
    ones = groups.reduce(np.ones_like(codes), np.add)
    scale = groups.spread(params.scale, codes.shape)
    zero = np.rint(groups.reduce(codes - target / scale, np.add) / ones)
    zero = np.clip(zero, spec.low, spec.high)
    steps = codes - groups.spread(zero, codes.shape)
    square = groups.reduce(steps * steps, np.add)
    product = groups.reduce(steps * target, np.add)
    fitted = product / np.where(square > 0, square, 1)
    sound = (square > 0) & (fitted >= SMALLEST_SCALE)
    scales = np.where(sound, fitted, params.scale).astype(np.float32)
    return Parameters(scales, zero.astype(spec.numpy_dtype))
