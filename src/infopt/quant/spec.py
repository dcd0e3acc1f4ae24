"""What a tensor is quantized to: the element type, how many scales, and where zero lies."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import onnx_ir as ir

from infopt.errors import QuantizationError
from infopt.quant.granularity import Granularity, PerBlock, PerTensor

INTEGER_LIMITS = {
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
}
LARGEST_FLOATS = {ir.DataType.FLOAT8E4M3FN: 448, ir.DataType.FLOAT4E2M1: 6}
FLOAT_TYPES = tuple(LARGEST_FLOATS)
SIGNED = (ir.DataType.INT8, ir.DataType.INT4, *FLOAT_TYPES)


@dataclasses.dataclass(frozen=True)
class QuantSpec:
    """How one tensor is quantized.

    Raises:
        QuantizationError: No such type, or a combination that has no meaning.
    """

    dtype: ir.DataType
    """INT8, UINT8, INT4, UINT4, FLOAT8E4M3FN or FLOAT4E2M1."""
    granularity: Granularity = PerTensor()  # noqa: RUF009 - a frozen value
    symmetric: bool = True
    """Whether the zero point stands in the middle: 0 for signed types, 128 or 8 for unsigned."""
    narrow: bool = False
    """Leave out the lowest integer, so that the range is as wide below zero as above it."""
    unsaturated: bool = False
    """Whether weights are such that no instruction of x86 saturates their products with uint8:
    see :mod:`infopt.quant.pairs`, also for the order in which a tensor has to lie."""

    def __post_init__(self) -> None:
        if self.dtype not in INTEGER_LIMITS and self.dtype not in FLOAT_TYPES:
            known = ", ".join(kind.name.lower() for kind in (*INTEGER_LIMITS, *FLOAT_TYPES))
            name = getattr(self.dtype, "name", str(self.dtype)).lower()
            raise QuantizationError(f"cannot quantize to {name}; use one of {known}")
        if self.is_float and not self.symmetric:
            raise QuantizationError(
                f"{self.dtype.name.lower()} has no zero point; make the spec symmetric"
            )
        if self.narrow and (self.is_float or not self.symmetric):
            raise QuantizationError("only a symmetric integer range can be narrow")
        whole = not isinstance(self.granularity, PerBlock)
        if self.unsaturated and not (self.narrow and self.dtype == ir.DataType.INT8 and whole):
            raise QuantizationError(
                "only a narrow range of int8, with one scale or one for each channel, can be "
                "unsaturated; leave that away"
            )

    @property
    def is_float(self) -> bool:
        """Whether the elements are small floating-point numbers, whose steps differ."""
        return self.dtype in FLOAT_TYPES

    @property
    def low(self) -> int:
        """The lowest element: -128 for int8, -127 if narrow, -448 for float8e4m3fn."""
        if self.is_float:
            return -self.high
        return INTEGER_LIMITS[self.dtype][0] + self.narrow

    @property
    def high(self) -> int:
        """The highest element: 127 for int8, 448 for float8e4m3fn, 6 for float4e2m1."""
        if self.is_float:
            return LARGEST_FLOATS[self.dtype]
        return INTEGER_LIMITS[self.dtype][1]

    @property
    def middle(self) -> int:
        """The zero point of a symmetric range: 0, or 128 and 8 for uint8 and uint4."""
        if self.dtype in SIGNED:
            return 0
        return (INTEGER_LIMITS[self.dtype][1] + 1) // 2

    @property
    def bits(self) -> int:
        """Bits of an element."""
        return self.dtype.bitwidth

    @property
    def numpy_dtype(self) -> np.dtype:
        """The type of arrays of such elements; ``ml_dtypes``' where numpy has none."""
        return self.dtype.numpy()

    def grid(self) -> np.ndarray:
        """All elements, ascending, as float64: 256 for int8, 253 for float8e4m3fn."""
        return _grid(self.dtype, self.low, self.high)


@functools.cache
def _grid(dtype: ir.DataType, low: int, high: int) -> np.ndarray:
    if dtype in INTEGER_LIMITS:
        found = np.arange(low, high + 1, dtype=np.float64)
    else:
        codes = np.arange(2**dtype.bitwidth, dtype=np.uint8)
        values = codes.view(dtype.numpy()).astype(np.float64)
        found = np.unique(values[np.isfinite(values)])
    found.flags.writeable = False
    return found
