import numpy as np
import pytest
from onnx_ir import DataType

from infopt.errors import QuantizationError
from infopt.quant.affine import fake_quantize
from infopt.quant.granularity import Granularity, PerAxis, PerBlock
from infopt.quant.rounding.gptq import gptq, inverse_factor
from infopt.quant.rounding.nearest import min_max_parameters, round_to_nearest
from infopt.quant.rounding.weight import output_error
from infopt.quant.spec import QuantSpec
from tests.support.activations import Layer, layer

LAYER = layer(256, 512, 4096)


@pytest.mark.parametrize("by_activation", [False, True])
@pytest.mark.parametrize("block", [32, 128])
@pytest.mark.parametrize(("dtype", "symmetric"), [(DataType.INT4, True), (DataType.UINT4, False)])
def test_it_takes_off_a_third_of_the_error(
    dtype: DataType, block: int, *, symmetric: bool, by_activation: bool
) -> None:
    spec = QuantSpec(dtype, PerBlock(1, block), symmetric)
    seen, unseen = (Layer(LAYER.weight, part) for part in np.split(LAYER.inputs, 2))
    found = gptq(seen.weight, seen.moment, spec, by_activation=by_activation)
    assert found.error <= 0.7 * found.nearest_error
    nearest = round_to_nearest(unseen.weight, spec, moment=unseen.moment)
    difference = unseen.weight - found.effective()
    assert output_error(difference, unseen.moment) <= 0.7 * nearest.error


def test_the_factor_is_that_of_the_damped_inverse() -> None:
    moment = LAYER.moment
    factor = inverse_factor(moment, 0.01).astype(np.float64)
    assert np.array_equal(factor, np.triu(factor))
    damped = moment + 0.01 * np.diagonal(moment).mean() * np.eye(512)
    np.testing.assert_allclose(factor.T @ factor @ damped, np.eye(512), atol=1e-4)


def test_a_matrix_that_is_no_moment() -> None:
    with pytest.raises(QuantizationError, match="no Cholesky factor"):
        inverse_factor(np.array([[1.0, 50], [50, 1]]), 0.01)


@pytest.mark.parametrize("groups", [PerAxis(0), PerBlock(1, 16), PerBlock(1, 40)], ids=str)
def test_it_is_the_algorithm_of_the_paper_column_by_column(groups: Granularity) -> None:
    case = layer(8, 96, 400)
    spec = QuantSpec(DataType.INT4, groups)
    block = groups.block if isinstance(groups, PerBlock) else 96
    work = case.weight.astype(np.float64)
    inverse = np.linalg.inv(case.moment + 0.01 * np.diagonal(case.moment).mean() * np.eye(96))
    rounded = np.zeros((8, 96))
    for column in range(96):
        if column % block == 0:
            part = work[:, column : column + block].astype(np.float32)
            one = QuantSpec(DataType.INT4, PerAxis(0))
            params = min_max_parameters(part, one)
        current = work[:, column : column + 1].astype(np.float32)
        rounded[:, column] = fake_quantize(current, params, one)[:, 0]
        error = (work[:, column] - rounded[:, column]) / inverse[0, 0]
        work[:, column:] -= np.outer(error, inverse[0])
        # Gaussian elimination of the column from the inverse: the paper's equation (3)
        inverse = (inverse - np.outer(inverse[:, 0], inverse[0]) / inverse[0, 0])[1:, 1:]
    found = gptq(case.weight, case.moment, spec)
    close = np.isclose(found.effective(), rounded, rtol=1e-4, atol=1e-6)
    assert close.mean() > 0.99  # float32 may round a tie the other way
