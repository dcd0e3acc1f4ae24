import numpy as np
import pytest

from infopt.errors import QuantizationError
from infopt.quant.equalization import Link, equalize

rng = np.random.default_rng(0)


def uneven(*shape: int) -> np.ndarray:
    spread = np.exp(rng.normal(0, 2, (shape[0], *([1] * (len(shape) - 1)))))
    return np.asarray(rng.normal(0, 1, shape) * spread, np.float32)


def test_a_pair_has_the_same_ranges_on_both_sides_and_computes_the_same() -> None:
    first, second = uneven(32, 16), uneven(8, 32)
    (s,) = equalize([Link(first), Link(second)])
    a, b = first / s[:, None], second * s
    np.testing.assert_allclose(np.abs(a).max(axis=1), np.abs(b).max(axis=0), rtol=1e-5)
    x, bias = rng.normal(0, 1, (50, 16)), rng.normal(0, 1, 32)
    before = np.maximum(x @ first.T + bias, 0) @ second.T
    after = np.maximum(x @ a.T + bias / s, 0) @ b.T
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-4 * np.abs(before).max())


def test_a_mobile_block_settles() -> None:
    chain = [
        Link(uneven(24, 8, 1, 1)),
        Link(uneven(24, 1, 3, 3), groups=24),
        Link(uneven(12, 24, 1, 1)),
    ]
    s, t = equalize(chain)
    expand = chain[0].weight / s[:, None, None, None]
    depthwise = chain[1].weight * (s / t)[:, None, None, None]
    project = chain[2].weight * t[:, None, None]
    ranges = [
        np.abs(expand).max(axis=(1, 2, 3)),
        np.abs(depthwise).max(axis=(1, 2, 3)),
        np.abs(project).max(axis=(0, 2, 3)),
    ]
    np.testing.assert_allclose(ranges[0], ranges[1], rtol=0.01)
    np.testing.assert_allclose(ranges[1], ranges[2], rtol=0.01)


def test_grouped_convolutions_read_their_own_channels() -> None:
    first, second = uneven(6, 4), uneven(4, 3, 2)
    (s,) = equalize([Link(first), Link(second, groups=2)])
    wide = np.zeros((4, 6, 2), np.float32)
    wide[:2, :3], wide[2:, 3:] = second[:2], second[2:]
    (expected,) = equalize([Link(first), Link(wide)])
    np.testing.assert_allclose(s, expected, rtol=1e-6)


def test_channels_of_zeros_are_left_alone() -> None:
    first, second = np.ones((3, 2), np.float32), np.ones((2, 3), np.float32)
    first[0] = 0
    second[:, 1] = 0
    first[2] = 4
    assert equalize([Link(first), Link(second)])[0].tolist() == [1, 1, 2]


def test_extremes_stay_finite() -> None:
    (s,) = equalize([Link(np.full((2, 2), 1e30)), Link(np.full((2, 2), 1e-30))])
    assert s.tolist() == [2.0**20] * 2


def test_chains_that_do_not_fit() -> None:
    with pytest.raises(QuantizationError, match="6 outputs precedes one of 5 inputs"):
        equalize([Link(uneven(6, 4)), Link(uneven(4, 5))])
    with pytest.raises(QuantizationError, match="in 4 groups"):
        equalize([Link(uneven(6, 4), groups=4), Link(uneven(4, 6))])
    with pytest.raises(QuantizationError, match="NaN"):
        equalize([Link(np.full((6, 4), np.nan)), Link(uneven(4, 6))])
    assert equalize([Link(uneven(6, 4))]) == []
