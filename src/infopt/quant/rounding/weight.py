"""RoundedWeight: what every way of rounding returns, and the error they are judged by."""

from __future__ import annotations

import dataclasses

import numpy as np

from infopt.errors import QuantizationError
from infopt.quant.affine import Parameters, dequantize
from infopt.quant.granularity import PerAxis, PerBlock, PerTensor
from infopt.quant.spec import QuantSpec


@dataclasses.dataclass(frozen=True, eq=False)
class RoundedWeight:
    """A quantized weight ``(out, in)``."""

    quantized: np.ndarray
    """Elements, in ``spec.numpy_dtype``."""
    parameters: Parameters
    spec: QuantSpec
    error: float
    """``tr((W - Ŵ) H (W - Ŵ)ᵀ)``: the mean squared error of an output, summed over the outputs.
    Without a second moment, ``H`` is 1 and it is the squared error of the weights."""
    nearest_error: float
    """The same of rounding to nearest with a scale from minimum and maximum."""
    input_scale: np.ndarray | None = None
    """float32 ``(in,)``: what the inputs are to be divided by; ``None`` stands for ones."""
    gave_up: bool = False
    """Whether it is rounded to nearest after all: what was asked for left more error."""

    def dequantized(self) -> np.ndarray:
        """float32 ``(out, in)``: the numbers that meet the (divided) inputs."""
        return dequantize(self.quantized, self.parameters, self.spec)

    def effective(self) -> np.ndarray:
        """float32 ``(out, in)``: Ŵ, what stands for the original weight."""
        if self.input_scale is None:
            return self.dequantized()
        return np.asarray(self.dequantized() / self.input_scale)


def output_error(difference: np.ndarray, moment: np.ndarray | None) -> float:
    """``tr(D H Dᵀ)`` for ``D`` (out, in) and ``H`` (in, in), or ``tr(D Dᵀ)`` without ``H``."""
    wide = difference.astype(np.float64)
    return float(np.vdot(wide, wide if moment is None else wide @ moment))


def row_blocks(spec: QuantSpec, features: int) -> int:
    """How many inputs share a scale.

    Raises:
        QuantizationError: The granularity is not one of rows or of blocks of them.
    """
    granularity = spec.granularity
    if isinstance(granularity, PerBlock) and granularity.axis in (1, -1):
        return granularity.block
    if granularity in (PerTensor(), PerAxis(0), PerAxis(-2)):
        return max(features, 1)
    raise QuantizationError(
        f"weights (out, in) are rounded per tensor, PerAxis(0) or PerBlock(1, …), not {granularity}"
    )


def checked(weight: np.ndarray, moment: np.ndarray | None, spec: QuantSpec) -> np.ndarray:
    """``weight`` as float32, if it can be rounded.

    Raises:
        QuantizationError: It is no matrix, holds NaN or infinite values, or the second moment
            does not fit it.
    """
    if weight.ndim != 2:
        raise QuantizationError(f"a weight (out, in) expected, got shape {list(weight.shape)}")
    row_blocks(spec, weight.shape[1])
    with np.errstate(over="ignore"):
        weight = weight.astype(np.float32, copy=False)
    if not np.isfinite(weight).all():
        raise QuantizationError("the weight holds NaN or infinite values; it cannot be quantized")
    if moment is not None:
        features = weight.shape[1]
        if moment.shape != (features, features):
            raise QuantizationError(
                f"a weight of {features} inputs has a second moment of shape "
                f"{[features, features]}, not {list(moment.shape)}"
            )
        if not np.isfinite(moment).all():
            raise QuantizationError("the second moment holds NaN or infinite values")
    return weight
