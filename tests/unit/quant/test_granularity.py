import doctest

import numpy as np
import pytest

from infopt.errors import QuantizationError
from infopt.quant import granularity
from infopt.quant.granularity import Granularity, PerAxis, PerBlock, PerTensor


def test_the_examples_hold() -> None:
    found = doctest.testmod(granularity)
    assert found.attempted >= 7
    assert not found.failed


@pytest.mark.parametrize(
    "groups",
    [PerTensor(), PerAxis(0), PerAxis(-1), PerBlock(1, 4), PerBlock(0, 2), PerBlock(-1, 3)],
)
@pytest.mark.parametrize("shape", [(6, 8), (5, 7, 2), (1, 1)])
def test_reducing_and_spreading_agree_on_the_groups(
    groups: Granularity, shape: tuple[int, ...]
) -> None:
    array = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    most = groups.reduce(array, np.maximum)
    assert most.shape == groups.scale_shape(shape)
    spread = np.broadcast_to(groups.spread(most, shape), shape)
    assert (array <= spread).all()
    for value in most.ravel():  # each is taken on in its own group, or is the 0 it starts at
        assert value == 0 or (array[spread == value] == value).any()
    counts = groups.reduce(np.ones(shape, np.float32), np.add)
    assert counts.sum() == array.size


@pytest.mark.parametrize("groups", [PerTensor(), PerAxis(0), PerBlock(1, 4)])
def test_empty_arrays_reduce_to_zero(groups: Granularity) -> None:
    for shape in ((0, 8), (4, 0)):
        found = groups.reduce(np.zeros(shape, np.float32), np.maximum)
        assert found.shape == groups.scale_shape(shape)
        assert not found.any()


def test_a_scalar_has_one_scale() -> None:
    assert PerTensor().reduce(np.array(3, np.float32), np.maximum) == 3


def test_axes_that_are_not_there() -> None:
    with pytest.raises(QuantizationError, match=r"shape \[3, 4\] has no axis 2"):
        PerAxis(2).scale_shape((3, 4))
    with pytest.raises(QuantizationError, match="no axis -3"):
        PerBlock(-3, 32).scale_shape((3, 4))


def test_blocks_hold_something() -> None:
    with pytest.raises(QuantizationError, match="holds 0 elements"):
        PerBlock(1, 0)
