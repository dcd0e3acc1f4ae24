import numpy as np
import pytest
from onnx_ir import DataType

from infopt.errors import QuantizationError
from infopt.quant.granularity import PerAxis, PerBlock
from infopt.quant.rounding.hqq import NORM, hqq
from infopt.quant.rounding.nearest import round_to_nearest
from infopt.quant.spec import QuantSpec
from tests.support.activations import layer

LAYER = layer(64, 512, 1024)


@pytest.mark.parametrize("groups", [PerAxis(0), PerBlock(1, 32), PerBlock(1, 128)], ids=str)
def test_the_norm_of_the_error_is_less_in_every_group(groups: PerAxis | PerBlock) -> None:
    spec = QuantSpec(DataType.UINT4, groups, symmetric=False)
    norms = [
        groups.reduce(np.abs(LAYER.weight - found.effective()) ** NORM, np.add)
        for found in (round_to_nearest(LAYER.weight, spec), hqq(LAYER.weight, spec))
    ]
    assert (norms[1] <= norms[0] * (1 + 1e-6)).all()
    assert norms[1].sum() < 0.96 * norms[0].sum()


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_size_of_the_weights_does_not_matter(factor: float) -> None:
    spec = QuantSpec(DataType.UINT4, PerBlock(1, 64), symmetric=False)
    factor = 2.0 ** round(np.log2(factor))
    found = hqq(LAYER.weight, spec)
    scaled = hqq((LAYER.weight * factor).astype(np.float32), spec)
    gain, same = found.error / found.nearest_error, scaled.error / scaled.nearest_error
    assert same == pytest.approx(gain, rel=1e-3)


def test_it_needs_a_zero_point() -> None:
    with pytest.raises(QuantizationError, match="make the spec asymmetric"):
        hqq(LAYER.weight, QuantSpec(DataType.INT4, PerBlock(1, 32)))
