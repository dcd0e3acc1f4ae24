import numpy as np
import pytest
from onnx_ir import DataType

from infopt.errors import QuantizationError
from infopt.quant.granularity import PerAxis, PerBlock
from infopt.quant.rounding.awq import awq
from infopt.quant.rounding.gptq import gptq
from infopt.quant.spec import QuantSpec
from tests.support.activations import layer

LAYER = layer(256, 512, 2048)


@pytest.mark.parametrize("block", [32, 128])
@pytest.mark.parametrize(("dtype", "symmetric"), [(DataType.INT4, True), (DataType.UINT4, False)])
def test_it_takes_off_a_third_of_the_error(dtype: DataType, block: int, *, symmetric: bool) -> None:
    spec = QuantSpec(dtype, PerBlock(1, block), symmetric)
    found = awq(LAYER.weight, LAYER.moment, LAYER.magnitude, spec)
    assert found.error <= 0.7 * found.nearest_error
    plain = awq(LAYER.weight, LAYER.moment, LAYER.magnitude, spec, clip=False)
    assert found.error <= plain.error <= plain.nearest_error


def test_gptq_goes_on_where_it_ends() -> None:
    spec = QuantSpec(DataType.INT4, PerBlock(1, 128))
    found = awq(LAYER.weight, LAYER.moment, LAYER.magnitude, spec)
    scale = found.input_scale
    assert scale is not None
    both = gptq(LAYER.weight * scale, LAYER.moment / np.outer(scale, scale), spec)
    assert both.error < found.error


def test_the_inputs_divided_by_the_scale_meet_the_weights() -> None:
    spec = QuantSpec(DataType.INT8, PerAxis(0))
    found = awq(LAYER.weight, LAYER.moment, LAYER.magnitude, spec)
    scale = found.input_scale
    assert scale is not None
    assert scale.max() * scale.min() == pytest.approx(1, rel=1e-5)
    divided = (LAYER.inputs / scale) @ found.dequantized().T
    np.testing.assert_allclose(divided, LAYER.inputs @ found.effective().T, rtol=0, atol=1e-3)


def test_inputs_without_magnitude_are_left_alone() -> None:
    spec = QuantSpec(DataType.INT4, PerBlock(1, 32))
    nothing = np.zeros(512)
    found = awq(LAYER.weight, LAYER.moment, nothing, spec, clip=False)
    assert found.input_scale is not None
    assert (found.input_scale == 1).all()
    assert found.error == pytest.approx(found.nearest_error)


def test_magnitudes_that_do_not_fit() -> None:
    spec = QuantSpec(DataType.INT4, PerBlock(1, 32))
    for wrong in (np.ones(5), np.full(512, np.nan)):
        with pytest.raises(QuantizationError, match="mean magnitudes of 512 inputs"):
            awq(LAYER.weight, LAYER.moment, wrong, spec)
