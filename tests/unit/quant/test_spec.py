import numpy as np
import pytest
from onnx_ir import DataType

from infopt.errors import QuantizationError
from infopt.quant.granularity import Granularity, PerAxis, PerBlock, PerTensor
from infopt.quant.spec import QuantSpec


@pytest.mark.parametrize(
    ("dtype", "low", "high", "middle", "bits", "elements"),
    [
        (DataType.INT8, -128, 127, 0, 8, 256),
        (DataType.UINT8, 0, 255, 128, 8, 256),
        (DataType.INT4, -8, 7, 0, 4, 16),
        (DataType.UINT4, 0, 15, 8, 4, 16),
        (DataType.FLOAT8E4M3FN, -448, 448, 0, 8, 253),
        (DataType.FLOAT4E2M1, -6, 6, 0, 4, 15),
    ],
)
def test_limits(
    dtype: DataType, low: int, high: int, middle: int, bits: int, elements: int
) -> None:
    spec = QuantSpec(dtype)
    assert (spec.low, spec.high, spec.middle, spec.bits) == (low, high, middle, bits)
    grid = spec.grid()
    assert (grid[0], grid[-1], grid.size) == (low, high, elements)
    assert (np.diff(grid) > 0).all()
    assert np.array_equal(grid.astype(spec.numpy_dtype).astype(np.float64), grid)


def test_a_narrow_range_is_as_wide_on_both_sides() -> None:
    for dtype in (DataType.INT8, DataType.UINT8, DataType.INT4, DataType.UINT4):
        spec = QuantSpec(dtype, narrow=True)
        assert spec.high - spec.middle == spec.middle - spec.low
        assert spec.grid()[0] == spec.low


@pytest.mark.parametrize(
    ("dtype", "groups", "narrow"),
    [
        (DataType.INT8, PerTensor(), False),
        (DataType.UINT8, PerTensor(), True),
        (DataType.INT4, PerAxis(0), True),
        (DataType.INT8, PerBlock(1, 32), True),
    ],
)
def test_only_what_x86_multiplies_can_be_unsaturated(
    dtype: DataType, groups: Granularity, *, narrow: bool
) -> None:
    assert QuantSpec(DataType.INT8, PerAxis(0), narrow=True, unsaturated=True).high == 127
    with pytest.raises(QuantizationError, match="only a narrow range of int8, with one scale or"):
        QuantSpec(dtype, groups, narrow=narrow, unsaturated=True)


def test_specs_are_values() -> None:
    assert QuantSpec(DataType.INT8) == QuantSpec(DataType.INT8, PerTensor())
    assert hash(QuantSpec(DataType.INT8)) == hash(QuantSpec(DataType.INT8))


def test_types_that_are_none() -> None:
    with pytest.raises(QuantizationError, match="cannot quantize to int32; use one of int8"):
        QuantSpec(DataType.INT32)
    with pytest.raises(QuantizationError, match="cannot quantize to int8"):
        QuantSpec("int8")  # type: ignore[arg-type]


def test_combinations_without_meaning() -> None:
    with pytest.raises(QuantizationError, match="float8e4m3fn has no zero point"):
        QuantSpec(DataType.FLOAT8E4M3FN, symmetric=False)
    with pytest.raises(QuantizationError, match="narrow"):
        QuantSpec(DataType.INT8, symmetric=False, narrow=True)
    with pytest.raises(QuantizationError, match="narrow"):
        QuantSpec(DataType.FLOAT8E4M3FN, narrow=True)
