"""Scales and zero points, and the arithmetic of QuantizeLinear and DequantizeLinear.

``q = saturate(round(x / scale) + zero_point)`` and ``x ≈ (q - zero_point) · scale``, in float32,
rounding half to even: bit for bit what ONNX Runtime computes. There are two exceptions. A narrow
range saturates one element earlier, since the operator knows no such range. And beyond 2^31 steps,
where some of ONNX Runtime's loops overflow into the other sign, values saturate as ONNX says.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from infopt.errors import QuantizationError
from infopt.quant import pairs
from infopt.quant.granularity import Granularity
from infopt.quant.spec import QuantSpec

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Below this float32 numbers are denormal, which processors may take for 0: 1.18e-38."""
LARGEST = float(np.finfo(np.float32).max)


@dataclasses.dataclass(frozen=True, eq=False)
class Parameters:
    """Scale and zero point, in the shapes that QuantizeLinear takes."""

    scale: np.ndarray
    """float32, of the granularity's ``scale_shape``; normal, finite and above 0."""
    zero_point: np.ndarray
    """The element that stands for 0, in the element type, same shape."""

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Parameters)
            and self.scale.shape == other.scale.shape
            and self.zero_point.dtype == other.zero_point.dtype
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.zero_point, other.zero_point)
        )

    __hash__ = None  # type: ignore[assignment]


def parameters(
    low: np.ndarray | np.floating | float, high: np.ndarray | np.floating | float, spec: QuantSpec
) -> Parameters:
    """The scale and zero point with which ``spec`` covers ``[low, high]``.

    0 is always covered, and is always an element: it pads, masks, and fills what ReLU cuts off.
    A symmetric scale is the smallest whose range covers both ends, so a signed range that is not
    ``narrow`` uses its one more step below zero. A range of nothing but 0 gets scale 1. A range
    too small for float32 gets the smallest normal scale, at which its ends may round to 0.

    Args:
        low: Lower ends, in the granularity's ``scale_shape`` or a shape that broadcasts to it.
        high: Upper ends, likewise.
        spec: What to quantize to.

    Raises:
        QuantizationError: An end is not finite in float32, or ``low > high``.
    """
    lows, highs = np.broadcast_arrays(np.float64(low), np.float64(high))
    bad = ~((np.abs(lows) <= LARGEST) & (np.abs(highs) <= LARGEST) & (lows <= highs))
    if bad.any():
        where = tuple(int(index) for index in np.argwhere(bad)[0])
        place = f" at {list(where)}" if where else ""
        raise QuantizationError(
            f"[{lows[where]:g}, {highs[where]:g}]{place} is no range of finite numbers; remove "
            "NaN and infinite values from the data, or the samples that produce them"
        )
    lows, highs = np.minimum(lows, 0.0), np.maximum(highs, 0.0)
    if spec.symmetric:
        scale = np.maximum(lows / (spec.low - spec.middle), highs / (spec.high - spec.middle))
        zero = np.full(scale.shape, float(spec.middle))
    else:
        scale = (highs - lows) / (spec.high - spec.low)
        zero = np.clip(
            np.rint(spec.low - lows / np.where(scale > 0, scale, 1)), spec.low, spec.high
        )
    # The farthest element must stay finite: rounding could take a range of all float32 past it.
    most = LARGEST / np.maximum(spec.high - zero, zero - spec.low)
    scale = np.where(scale > 0, np.maximum(scale, SMALLEST_SCALE), 1.0)
    narrowed = np.minimum(scale.astype(np.float32), np.nextafter(most.astype(np.float32), 0))
    return Parameters(np.asarray(narrowed, np.float32), np.asarray(zero).astype(spec.numpy_dtype))


def weight_range(
    array: np.ndarray, granularity: Granularity, *, unsaturated: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest element of each group that shares a scale; 0 counts as an element.

    Args:
        array: The weights.
        granularity: Which of them share a scale.
        unsaturated: Whether sums of neighbours count as elements (:mod:`infopt.quant.pairs`).

    Raises:
        QuantizationError: The array holds NaN or infinite values.
    """
    with np.errstate(invalid="ignore"):
        low, high = granularity.reduce(array, np.minimum), granularity.reduce(array, np.maximum)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise QuantizationError("the tensor holds NaN or infinite values; it has no range")
    if unsaturated:
        sums = pairs.sums(array.astype(np.float32, copy=False))
        low = np.minimum(low, granularity.reduce(sums, np.minimum))
        high = np.maximum(high, granularity.reduce(sums, np.maximum))
    return low, high


def quantize(array: np.ndarray, params: Parameters, spec: QuantSpec) -> np.ndarray:
    """What QuantizeLinear makes of ``array``, in ``spec.numpy_dtype``; infinities saturate.

    Args:
        array: float32; float16 and bfloat16 are widened first.
        params: Of shape ``spec.granularity.scale_shape(array.shape)``.
        spec: What to quantize to.

    Raises:
        QuantizationError: The shape of ``params`` does not fit, or the array holds NaN.
    """
    scale, zero = _spread(params, array.shape, spec)
    if np.isnan(array).any():
        raise QuantizationError("the tensor holds NaN, which no element stands for; remove it")
    codes = round_to_codes(array.astype(np.float32, copy=False), scale, zero, spec)
    if spec.bits == 4 and not spec.is_float:
        codes = codes.astype(np.int8)  # from which ml_dtypes' cast is exact and fast
    return codes.astype(spec.numpy_dtype)


def round_to_codes(
    array: np.ndarray, scale: np.ndarray, zero: np.ndarray, spec: QuantSpec
) -> np.ndarray:
    """The elements that stand for ``array``, still in float32.

    Args:
        array: float32 without NaN.
        scale: float32 that broadcasts against it.
        zero: The zero point as float32, likewise.
        spec: The element type; its granularity plays no part.
    """
    with np.errstate(over="ignore"):
        codes = np.asarray(array / scale)
    if spec.is_float:
        np.clip(codes, spec.low, spec.high, out=codes)
        return codes.astype(spec.numpy_dtype).astype(np.float32)
    np.rint(codes, out=codes)
    # Before the sum, which would round where |codes| > 2^24; the ends are exact in float32.
    np.clip(codes, spec.low - zero, spec.high - zero, out=codes)
    codes += zero
    return codes


def dequantize(quantized: np.ndarray, params: Parameters, spec: QuantSpec) -> np.ndarray:
    """What DequantizeLinear makes of ``quantized``, in float32.

    Raises:
        QuantizationError: The shape of ``params`` does not fit.
    """
    scale, zero = _spread(params, quantized.shape, spec)
    steps = quantized.astype(np.float32)
    steps -= zero
    steps *= scale
    return steps


def fake_quantize(array: np.ndarray, params: Parameters, spec: QuantSpec) -> np.ndarray:
    """``dequantize(quantize(array))``: the float32 numbers that computing goes on with."""
    return dequantize(quantize(array, params, spec), params, spec)


def _spread(
    params: Parameters, shape: tuple[int, ...], spec: QuantSpec
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point as float32 arrays that broadcast against a tensor of ``shape``."""
    expected = spec.granularity.scale_shape(shape)
    if params.scale.shape != expected or params.zero_point.shape != expected:
        raise QuantizationError(
            f"a tensor of shape {list(shape)} has a scale of shape {list(expected)} with "
            f"{spec.granularity}, not {list(params.scale.shape)}"
        )
    zero = params.zero_point.astype(np.float32)
    return spec.granularity.spread(params.scale, shape), spec.granularity.spread(zero, shape)
