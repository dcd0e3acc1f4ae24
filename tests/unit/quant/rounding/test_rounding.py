"""What holds of every way of rounding a weight."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx_ir import DataType

from infopt.errors import QuantizationError
from infopt.quant.affine import quantize
from infopt.quant.granularity import Granularity, PerAxis, PerBlock, PerTensor
from infopt.quant.rounding.awq import awq
from infopt.quant.rounding.gptq import gptq
from infopt.quant.rounding.hqq import hqq
from infopt.quant.rounding.nearest import round_to_nearest
from infopt.quant.rounding.weight import RoundedWeight
from infopt.quant.spec import QuantSpec
from tests.support.activations import layer

Way = Callable[[np.ndarray, np.ndarray, QuantSpec], RoundedWeight]

WAYS: dict[str, Way] = {
    "nearest": lambda w, h, spec: round_to_nearest(w, spec, moment=h),
    "nearest-search": lambda w, h, spec: round_to_nearest(w, spec, search=True, moment=h),
    "gptq": gptq,
    "gptq-order-search": lambda w, h, spec: gptq(w, h, spec, by_activation=True, search=True),
    "gptq-search": lambda w, h, spec: gptq(w, h, spec, search=True),
    "awq": lambda w, h, spec: awq(w, h, np.sqrt(np.diagonal(h)), spec),
    "hqq": lambda w, h, spec: hqq(w, spec, moment=h),
}
GROUPS = [PerTensor(), PerAxis(0), PerBlock(1, 16), PerBlock(-1, 100), PerBlock(1, 7)]
TYPES = [
    (DataType.INT4, True),
    (DataType.UINT4, False),
    (DataType.INT8, False),
    (DataType.FLOAT8E4M3FN, True),
    (DataType.FLOAT4E2M1, True),
]
SMALL = layer(24, 64, 200)


def fits(name: str, spec: QuantSpec) -> bool:
    return name != "hqq" or not spec.symmetric


@pytest.mark.parametrize("groups", GROUPS, ids=str)
@pytest.mark.parametrize(("dtype", "symmetric"), TYPES)
@pytest.mark.parametrize("name", WAYS)
def test_results_are_what_they_say(
    name: str, dtype: DataType, groups: Granularity, *, symmetric: bool
) -> None:
    spec = QuantSpec(dtype, groups, symmetric)
    if not fits(name, spec):
        return
    weight, moment = SMALL.weight, SMALL.moment
    found = WAYS[name](weight, moment, spec)
    assert found.quantized.shape == weight.shape
    assert found.quantized.dtype == spec.numpy_dtype
    assert found.parameters.scale.shape == groups.scale_shape(weight.shape)
    difference = (weight - found.effective()).astype(np.float64)
    error = float(np.trace(difference @ moment @ difference.T))
    assert found.error == pytest.approx(error, rel=1e-6)
    rows = SMALL.inputs.astype(np.float64)
    assert error == pytest.approx(np.mean(np.sum((rows @ difference.T) ** 2, axis=1)), rel=1e-6)
    nearest = round_to_nearest(weight, spec, moment=moment)
    assert found.nearest_error == pytest.approx(nearest.error, rel=1e-12)
    # the elements are elements of the grid that the parameters span
    again = quantize(found.dequantized(), found.parameters, spec)
    assert np.array_equal(again.astype(np.float32), found.quantized.astype(np.float32))


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("groups", [PerAxis(0), PerBlock(1, 16)], ids=str)
@pytest.mark.parametrize(
    "weight",
    [
        np.zeros((4, 32)),
        np.full((4, 32), 0.3),
        np.full((4, 32), 1e30),
        np.full((4, 32), 1e-42),
        np.eye(4, 32) * 5,
        np.ones((1, 1)),
        np.zeros((0, 32)),
        np.zeros((4, 0)),
    ],
    ids=["zeros", "constant", "huge", "denormal", "sparse", "single", "no-rows", "no-columns"],
)
def test_odd_weights(name: str, groups: Granularity, weight: np.ndarray) -> None:
    spec = QuantSpec(DataType.UINT4, groups, symmetric=False)
    weight = weight.astype(np.float32)
    moment = layer(1, max(weight.shape[1], 1), 50).moment[: weight.shape[1], : weight.shape[1]]
    found = WAYS[name](weight, moment, spec)
    assert np.isfinite(found.dequantized()).all()
    limit = np.abs(weight).max(initial=0) / 15 + 2e-38
    assert (np.abs(found.effective() - weight) <= limit * 1.5).all()


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("groups", [PerAxis(0), PerBlock(1, 16)], ids=str)
def test_odd_inputs(name: str, groups: Granularity) -> None:
    spec = QuantSpec(DataType.UINT4, groups, symmetric=False)
    weight = SMALL.weight
    rank_one = np.outer(SMALL.inputs[0], SMALL.inputs[0]).astype(np.float64)
    some_dead = SMALL.moment.copy()
    some_dead[[3, 17]] = 0
    some_dead[:, [3, 17]] = 0
    for moment in (
        np.zeros((64, 64)),
        rank_one,
        some_dead,
        SMALL.moment * 1e30,
        SMALL.moment * 1e-30,
    ):
        found = WAYS[name](weight, moment, spec)
        assert np.isfinite(found.effective()).all()
        assert found.error <= found.nearest_error * (1 + 1e-9) or name in ("nearest-search", "hqq")


@pytest.mark.parametrize("name", WAYS)
def test_input_that_cannot_be_used(name: str) -> None:
    spec = QuantSpec(DataType.UINT4, PerBlock(1, 16), symmetric=False)
    weight, moment = SMALL.weight, SMALL.moment
    with pytest.raises(QuantizationError, match="the weight holds NaN"):
        WAYS[name](np.where(weight > 0.3, np.nan, weight), moment, spec)
    with pytest.raises(QuantizationError, match=r"weight \(out, in\) expected"):
        WAYS[name](weight[0], moment, spec)
    with pytest.raises(QuantizationError, match=r"second moment of shape \[64, 64\], not"):
        WAYS[name](weight, np.eye(5), spec)
    with pytest.raises(QuantizationError, match="moment holds NaN"):
        WAYS[name](weight, np.where(moment > 1, np.inf, moment), spec)
    for groups in (PerAxis(1), PerBlock(0, 16)):
        with pytest.raises(QuantizationError, match="rounded per tensor"):
            WAYS[name](weight, moment, QuantSpec(DataType.UINT4, groups, symmetric=False))
