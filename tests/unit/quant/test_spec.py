import numpy as np
import pytest
from onnx_ir import DataType

from infopt.errors import QuantizationError
from infopt.quant.granularity import PerTensor
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


def test_a_range_may_be_smaller_than_its_type() -> None:
    spec = QuantSpec(DataType.INT8, narrow=True, most=64)
    assert (spec.low, spec.high, spec.middle, spec.bits) == (-64, 64, 0, 8)
    assert spec.grid().tolist() == list(range(-64, 65))
    with pytest.raises(QuantizationError, match="only a narrow range of a signed integer"):
        QuantSpec(DataType.INT8, most=64)
    with pytest.raises(QuantizationError, match="only a narrow range of a signed integer"):
        QuantSpec(DataType.UINT8, narrow=True, most=64)
    with pytest.raises(QuantizationError, match="is never 200; choose at most 127"):
        QuantSpec(DataType.INT8, narrow=True, most=200)


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
