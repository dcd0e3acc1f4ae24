import numpy as np
import pytest
from onnx_ir import DataType

from infopt.quant.affine import fake_quantize, parameters, weight_range
from infopt.quant.granularity import Granularity, PerAxis, PerBlock, PerTensor
from infopt.quant.rounding.nearest import clipped_parameters, round_to_nearest
from infopt.quant.spec import QuantSpec
from tests.support.activations import layer

LAYER = layer(64, 256, 1024)


@pytest.mark.parametrize(
    "groups", [PerTensor(), PerAxis(0), PerBlock(1, 32), PerBlock(1, 100)], ids=str
)
def test_it_is_quantize_with_the_ranges_of_the_groups(groups: Granularity) -> None:
    spec = QuantSpec(DataType.INT4, groups)
    params = parameters(*weight_range(LAYER.weight, groups), spec)
    found = round_to_nearest(LAYER.weight, spec)
    assert np.array_equal(found.effective(), fake_quantize(LAYER.weight, params, spec))
    assert found.error == found.nearest_error
    assert found.error == pytest.approx(
        np.sum((LAYER.weight - found.effective()) ** 2, dtype=float)
    )


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    "groups", [PerTensor(), PerAxis(0), PerBlock(1, 32), PerBlock(1, 100)], ids=str
)
def test_a_search_lessens_the_error_of_every_group(groups: Granularity, *, symmetric: bool) -> None:
    spec = QuantSpec(DataType.INT4, groups, symmetric)
    plain, searched = (round_to_nearest(LAYER.weight, spec, search=s) for s in (False, True))
    errors = [
        groups.reduce((LAYER.weight - found.effective()) ** 2, np.add)
        for found in (plain, searched)
    ]
    assert (errors[1] <= errors[0] * (1 + 1e-6)).all()
    assert searched.error < 0.96 * plain.error
    assert searched.nearest_error == plain.error


def test_importance_decides_which_errors_count() -> None:
    spec = QuantSpec(DataType.INT4, PerAxis(0))
    weight = np.concatenate([LAYER.weight, np.full((64, 1), 3, np.float32)], axis=1)
    importance = np.ones(257, np.float32)
    importance[-1] = 0
    free = fake_quantize(weight, clipped_parameters(weight, spec, importance), spec)
    held = fake_quantize(weight, clipped_parameters(weight, spec), spec)
    assert (free[:, -1] < 0.5 * weight[:, -1]).all()
    assert (held[:, -1] > 0.8 * weight[:, -1]).all()
