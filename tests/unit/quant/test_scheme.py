import doctest

import pytest
from onnx_ir import DataType

from infopt.errors import QuantizationError
from infopt.quant import scheme
from infopt.quant.granularity import PerAxis
from infopt.quant.scheme import QuantScheme
from infopt.quant.spec import QuantSpec

INT8 = QuantSpec(DataType.INT8)


def test_the_examples_hold() -> None:
    found = doctest.testmod(scheme)
    assert found.attempted >= 4
    assert not found.failed


def test_schemes_are_values() -> None:
    assert QuantScheme(INT8) == QuantScheme(weights=INT8, activations=None, method="min-max")


def test_a_scheme_quantizes_something() -> None:
    with pytest.raises(QuantizationError, match="quantizes nothing"):
        QuantScheme()


def test_activations_have_one_range() -> None:
    with pytest.raises(QuantizationError, match=r"give them PerTensor"):
        QuantScheme(activations=QuantSpec(DataType.INT8, PerAxis(1)))


def test_methods_that_are_none() -> None:
    with pytest.raises(QuantizationError, match="'percentil'; did you mean 'percentile'"):
        QuantScheme(INT8, method="percentil")  # type: ignore[arg-type]
