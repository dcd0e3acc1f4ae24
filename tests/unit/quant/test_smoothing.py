import numpy as np
import pytest
from onnx_ir import DataType

from infopt.errors import QuantizationError
from infopt.quant.affine import fake_quantize, parameters, weight_range
from infopt.quant.granularity import PerAxis, PerTensor
from infopt.quant.smoothing import BOUND, expected_noise, smooth_factors
from infopt.quant.spec import QuantSpec
from tests.support.activations import layer


def test_the_formula() -> None:
    found = smooth_factors(np.array([16.0, 4]), np.array([1.0, 0.25]), 0.5)
    assert found.tolist() == [4, 4]
    assert found.dtype == np.float32
    assert smooth_factors(np.array([16.0, 4]), np.array([2.0, 0.25]), 1).tolist() == [16, 4]
    assert smooth_factors(np.array([16.0, 4]), np.array([2.0, 0.25]), 0).tolist() == [0.5, 4]


def test_quantized_products_get_closer() -> None:
    case = layer(64, 256, 512)
    activation, weight = QuantSpec(DataType.INT8), QuantSpec(DataType.INT8, PerAxis(0))

    def error(x: np.ndarray, w: np.ndarray) -> float:
        xs = fake_quantize(x, parameters(*weight_range(x, PerTensor()), activation), activation)
        ws = fake_quantize(w, parameters(*weight_range(w, PerAxis(0)), weight), weight)
        return float(np.mean((xs @ ws.T - case.inputs @ case.weight.T) ** 2))

    s = smooth_factors(np.abs(case.inputs).max(axis=0), np.abs(case.weight).max(axis=0))
    assert error(case.inputs / s, case.weight * s) < 0.3 * error(case.inputs, case.weight)


def test_channels_of_zeros_and_extremes() -> None:
    found = smooth_factors(np.array([0, 1, 0, 1e30, 1e-38]), np.array([1, 0, 0, 1e-30, 1e30]))
    assert found.tolist() == [1, 1, 1, BOUND, 1 / BOUND]


def test_input_that_makes_no_sense() -> None:
    one = np.ones(2)
    with pytest.raises(QuantizationError, match=r"alpha lies within \[0, 1\]"):
        smooth_factors(one, one, 1.5)
    with pytest.raises(QuantizationError, match="alpha"):
        smooth_factors(one, one, float("nan"))
    with pytest.raises(QuantizationError, match=r"shapes \[2\] of the activations and \[3\]"):
        smooth_factors(one, np.ones(3))
    for bad in (np.array([1, np.nan]), np.array([1, -1.0]), np.array([1, np.inf])):
        with pytest.raises(QuantizationError, match="finite and not negative"):
            smooth_factors(one, bad)


def test_the_noise_to_expect_is_that_which_comes() -> None:
    case = layer(64, 256, 4096)
    activation, weight = QuantSpec(DataType.INT8), QuantSpec(DataType.INT8, PerAxis(0))
    seen, means = np.abs(case.inputs).max(axis=0), np.abs(case.inputs).mean(axis=0)
    largest = np.abs(case.weight).max(axis=0)

    def error(factors: np.ndarray) -> float:
        x, w = case.inputs / factors, case.weight * factors
        xs = fake_quantize(x, parameters(*weight_range(x, PerTensor()), activation), activation)
        ws = fake_quantize(w, parameters(*weight_range(w, PerAxis(0)), weight), weight)
        return float(np.mean((xs @ ws.T - case.inputs @ case.weight.T) ** 2))

    every = [np.ones(seen.size, np.float32)]
    every += [smooth_factors(seen, largest, alpha) for alpha in (0.2, 0.5, 0.8, 1.0)]
    expected = np.array([expected_noise(seen, means, case.weight, each) for each in every])
    found = np.array([error(each) for each in every])
    np.testing.assert_allclose(expected / expected[0], found / found[0], rtol=0.5)
    assert expected.argmin() == found.argmin()
