import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx_ir import DataType

from infopt.errors import QuantizationError
from infopt.quant.affine import (
    SMALLEST_SCALE,
    Parameters,
    dequantize,
    fake_quantize,
    parameters,
    quantize,
    weight_range,
)
from infopt.quant.granularity import Granularity, PerAxis, PerBlock, PerTensor
from infopt.quant.spec import QuantSpec
from tests.support import runtime

INTEGERS = [DataType.INT8, DataType.UINT8, DataType.INT4, DataType.UINT4]
SPECS = [
    *(QuantSpec(dtype, symmetric=symmetric) for dtype in INTEGERS for symmetric in (True, False)),
    *(QuantSpec(dtype, narrow=True) for dtype in INTEGERS),
    QuantSpec(DataType.FLOAT8E4M3FN),
    QuantSpec(DataType.FLOAT4E2M1),
]
GROUPS = [PerTensor(), PerAxis(0), PerAxis(-1), PerBlock(1, 16), PerBlock(0, 8), PerBlock(1, 48)]
LARGE = float(np.finfo(np.float32).max)


def name(spec: QuantSpec) -> str:
    words = [spec.dtype.name.lower(), "symmetric" if spec.symmetric else "asymmetric"]
    return "-".join([*words, "narrow"] if spec.narrow else words)


def with_groups(spec: QuantSpec, groups: Granularity) -> QuantSpec:
    return QuantSpec(spec.dtype, groups, spec.symmetric, spec.narrow)


@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize("spec", SPECS[:-1], ids=name)
def test_bit_for_bit_as_onnx_runtime(spec: QuantSpec, groups: Granularity) -> None:
    spec = with_groups(spec, groups)
    rng = np.random.default_rng(1)
    array = rng.standard_t(3, (24, 112)).astype(np.float32)
    array[3] += 2
    low, high = weight_range(array, groups)
    params = parameters(low * 0.7, high * 0.9, spec)  # so that some values saturate
    array[5, :5] = [0, -0.0, 1e-40, 1e6, -1e6]
    if groups not in (PerAxis(-1), PerBlock(0, 8)):  # there, ONNX Runtime overflows
        array[5, 5:9] = [1e30, -1e30, np.inf, -np.inf]
    spread = np.broadcast_to(groups.spread(params.scale, array.shape), array.shape)
    array[6] = (np.arange(112) - 56 + 0.5) * spread[6]  # halfway between two elements
    codes, back = runtime.quantized(array, params, spec)
    mine = quantize(array, params, spec)
    assert mine.dtype == spec.numpy_dtype
    wide = mine.astype(np.float32)
    assert np.array_equal(wide, np.maximum(codes, spec.low))  # narrow ranges end earlier
    kept = codes >= spec.low
    assert kept.mean() > 0.9
    assert np.array_equal(dequantize(mine, params, spec)[kept], back[kept])
    assert np.array_equal(fake_quantize(array, params, spec)[kept], back[kept])


@pytest.mark.parametrize("groups", GROUPS, ids=str)
def test_values_far_outside_saturate(groups: Granularity) -> None:
    spec = QuantSpec(DataType.INT8, groups)
    array = np.array([[1e30, -1e30], [np.inf, -np.inf]], np.float32)
    shape = groups.scale_shape(array.shape)
    params = Parameters(np.full(shape, 1e-3, np.float32), np.zeros(shape, np.int8))
    assert quantize(array, params, spec).tolist() == [[127, -128]] * 2


def test_float4_is_rounded_to_the_nearest_element_and_saturates() -> None:
    spec = QuantSpec(DataType.FLOAT4E2M1)
    params = parameters(-6, 6, spec)
    assert params.scale == 1
    array = np.array([0.2, 0.25, 0.3, 1.25, 1.75, 2.5, 3.5, 5, 7, -100, np.inf], np.float32)
    expected = [0, 0, 0.5, 1, 2, 2, 4, 4, 6, -6, 6]
    assert fake_quantize(array, params, spec).tolist() == expected


@pytest.mark.parametrize("spec", SPECS, ids=name)
@pytest.mark.parametrize(
    ("low", "high"),
    [(-1, 1), (0, 1), (-1, 0), (2, 3), (-3, -2), (-0.1, 7), (-1e30, 1e30), (0, 1e-30)],
)
def test_ranges_are_covered_and_zero_is_an_element(
    spec: QuantSpec, low: float, high: float
) -> None:
    params = parameters(low, high, spec)
    ends = np.array([0, low, high], np.float32)
    back = fake_quantize(ends, params, spec)
    assert back[0] == 0
    assert np.isfinite(back).all()
    step = np.diff(spec.grid()).max() if spec.is_float else 1
    assert (np.abs(back - ends) <= params.scale * step / 2 * (1 + 1e-5)).all()


@pytest.mark.parametrize("spec", SPECS, ids=name)
@pytest.mark.parametrize("ends", [(-LARGE, LARGE), (0, LARGE), (-LARGE, 0), (-LARGE, 1)])
def test_a_range_of_all_of_float32_stays_finite(spec: QuantSpec, ends: tuple[float, float]) -> None:
    params = parameters(*ends, spec)
    back = fake_quantize(np.array(ends, np.float32), params, spec)
    assert np.isfinite(back).all()
    assert np.isfinite(dequantize(spec.grid().astype(spec.numpy_dtype), params, spec)).all()
    assert (np.abs(back.astype(np.float64) - ends) <= 1.01 * float(params.scale)).all()


def test_a_symmetric_scale_uses_the_step_below() -> None:
    assert parameters(-8, 7, QuantSpec(DataType.INT4)).scale == 1
    assert parameters(-8, 7, QuantSpec(DataType.INT4, narrow=True)).scale == np.float32(8 / 7)
    assert parameters(-7, 7, QuantSpec(DataType.INT4)).scale == 1
    assert parameters(-128, 0, QuantSpec(DataType.UINT8)) == Parameters(
        np.array(1, np.float32), np.array(128, np.uint8)
    )


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_a_range_of_zero_has_scale_one(spec: QuantSpec) -> None:
    params = parameters(0, 0, spec)
    assert params.scale == 1
    assert not fake_quantize(np.zeros((2, 3), np.float32), params, spec).any()


@pytest.mark.parametrize("spec", SPECS, ids=name)
@pytest.mark.parametrize("tiny", [1e-45, 1e-39, 2e-38])
def test_scales_are_never_denormal(spec: QuantSpec, tiny: float) -> None:
    params = parameters(-tiny, tiny, spec)
    assert params.scale >= SMALLEST_SCALE
    array = np.array([-tiny, 0, tiny], np.float32)
    assert (np.abs(fake_quantize(array, params, spec) - array) <= params.scale / 2).all()


@pytest.mark.parametrize("value", [0.0, 3.7, -3.7, 1e30, 1e-30])
@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_a_constant_is_an_element(spec: QuantSpec, value: float) -> None:
    array = np.full((4, 4), value, np.float32)
    params = parameters(*weight_range(array, PerTensor()), spec)
    back = fake_quantize(array, params, spec)
    np.testing.assert_allclose(back, array, rtol=3e-7)


def test_a_channel_of_zeros() -> None:
    spec = QuantSpec(DataType.INT8, PerAxis(0))
    array = np.array([[0, 0], [1, -2]], np.float32)
    params = parameters(*weight_range(array, spec.granularity), spec)
    assert params.scale[0] == 1
    assert quantize(array, params, spec).tolist() == [[0, 0], [64, -128]]


@pytest.mark.parametrize("groups", GROUPS, ids=str)
def test_empty_arrays(groups: Granularity) -> None:
    spec = QuantSpec(DataType.INT4, groups)
    array = np.zeros((0, 16), np.float32)
    params = parameters(*weight_range(array, groups), spec)
    assert fake_quantize(array, params, spec).shape == (0, 16)


def test_ranges_that_are_none() -> None:
    spec = QuantSpec(DataType.INT8)
    for low, high in ((math.nan, 1), (0, math.inf), (2, 1), (0, 1e39)):
        with pytest.raises(QuantizationError, match="no range of finite numbers"):
            parameters(low, high, spec)
    with pytest.raises(QuantizationError, match=r"\[0, nan\] at \[1\]"):
        parameters(np.zeros(2), np.array([1, math.nan]), spec)
    for value in (math.nan, math.inf):
        array = np.array([[1, 2], [value, 3]], np.float32)
        with pytest.raises(QuantizationError, match="NaN or infinite"):
            weight_range(array, PerAxis(0))


@pytest.mark.parametrize("spec", SPECS, ids=name)
def test_nan_has_no_element(spec: QuantSpec) -> None:
    with pytest.raises(QuantizationError, match="NaN"):
        quantize(np.array([0, math.nan], np.float32), parameters(-1, 1, spec), spec)


def test_scales_of_another_shape() -> None:
    spec = QuantSpec(DataType.INT8, PerAxis(0))
    params = parameters(-np.ones(3), np.ones(3), spec)
    with pytest.raises(QuantizationError, match=r"scale of shape \[2\] with PerAxis"):
        quantize(np.zeros((2, 3), np.float32), params, spec)


@settings(deadline=None, max_examples=200)
@given(
    array=arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=20),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    spec=st.sampled_from(SPECS),
    groups=st.sampled_from(GROUPS),
)
@example(np.array([[3.4028233e38]], np.float32), QuantSpec(DataType.INT8), PerTensor())
def test_errors_are_bounded_and_rounding_twice_is_rounding_once(
    array: np.ndarray, spec: QuantSpec, groups: Granularity
) -> None:
    spec = with_groups(spec, groups)
    params = parameters(*weight_range(array, groups), spec)
    assert np.isfinite(params.scale).all()
    assert (params.scale >= SMALLEST_SCALE).all()
    back = fake_quantize(array, params, spec)
    assert np.isfinite(back).all()
    assert np.array_equal(fake_quantize(back, params, spec), back)
    scale = groups.spread(params.scale, array.shape).astype(np.float64)
    # Half of the widest step, and float32's own rounding of numbers up to `high` steps.
    step = np.diff(spec.grid()).max() if spec.is_float else 1
    own = spec.high * 2.0**-22
    bound = scale * (step / 2 + own)
    # Where the far end of the grid would pass float32's largest number, the scale is cut to it;
    # the other end, one element nearer to zero, then saturates within a step.
    zero = groups.spread(params.zero_point, array.shape).astype(np.float64)
    cut = scale * np.maximum(spec.high - zero, zero - spec.low) > LARGE * (1 - 2.0**-22)
    bound = np.where(cut, scale * (max(step, 1) + own), bound)
    assert (np.abs(back.astype(np.float64) - array) <= bound).all()
