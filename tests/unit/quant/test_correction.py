import numpy as np
import pytest

from infopt.errors import QuantizationError
from infopt.quant.correction import corrected_bias

rng = np.random.default_rng(0)


def test_a_linear_layer_keeps_its_means() -> None:
    weight, bias = rng.normal(0, 1, (8, 16)), rng.normal(0, 1, 8)
    quantized = np.round(weight * 2) / 2
    x = rng.gamma(2, 1, (500, 16))
    corrected = corrected_bias(weight, quantized, x.mean(axis=0), bias)
    assert corrected.dtype == np.float32
    before, after = x @ weight.T + bias, x @ quantized.T + corrected
    np.testing.assert_allclose(after.mean(axis=0), before.mean(axis=0), atol=1e-5)
    assert np.allclose(corrected_bias(weight, quantized, x.mean(axis=0)) + bias, corrected)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_convolution_keeps_its_means(groups: int) -> None:
    weight = rng.normal(0, 1, (12, 6 // groups, 3, 3))
    quantized = np.round(weight)
    mean = rng.normal(1, 1, 6)
    corrected = corrected_bias(weight, quantized, mean, groups=groups)
    for output in range(12):
        first = output // (12 // groups) * (6 // groups)
        error = (quantized - weight)[output].sum(axis=(1, 2))
        expected = -error @ mean[first : first + 6 // groups]
        assert corrected[output] == pytest.approx(expected, rel=1e-5)


def test_equal_weights_change_nothing() -> None:
    weight = rng.normal(0, 1, (3, 4)).astype(np.float32)
    bias = rng.normal(0, 1, 3).astype(np.float32)
    assert np.array_equal(corrected_bias(weight, weight, np.ones(4), bias), bias)


def test_shapes_that_do_not_fit() -> None:
    weight = np.zeros((4, 2))
    with pytest.raises(QuantizationError, match="of one shape"):
        corrected_bias(weight, np.zeros((4, 3)), np.ones(2))
    with pytest.raises(QuantizationError, match=r"means of 4 inputs, not shape \[2\]"):
        corrected_bias(weight, weight, np.ones(2), groups=2)
    with pytest.raises(QuantizationError, match="for 4 outputs"):
        corrected_bias(weight, weight, np.ones(2), np.ones(3))
    with pytest.raises(QuantizationError, match="not finite"):
        corrected_bias(weight, weight + 1, np.array([1, np.nan]))
