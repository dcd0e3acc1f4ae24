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


@pytest.mark.parametrize("rows", [1, 3, 7, 40])
@pytest.mark.parametrize("groups", [PerAxis(0), PerBlock(1, 8)], ids=str)
def test_it_is_never_worse_than_nearest_on_what_was_observed(
    rows: int, groups: Granularity
) -> None:
    """However few rows there were: where it would be, it is rounding to nearest, and says so."""
    spec = QuantSpec(DataType.INT4, groups)
    gave_up = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        weight = rng.normal(size=(1, 16)).astype(np.float32)
        inputs = rng.normal(size=(rows, 16)) * np.exp(rng.normal(0, 2, 16))
        moment = inputs.T @ inputs / rows
        found = gptq(weight, moment, spec)
        nearest = round_to_nearest(weight, spec, moment=moment)
        assert output_error(weight - found.effective(), moment) == found.error
        assert found.error <= nearest.error == found.nearest_error
        gave_up += found.gave_up
        if found.gave_up:
            np.testing.assert_array_equal(found.quantized, nearest.quantized)
    assert gave_up < 60
    if rows == 40:
        assert gave_up


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
