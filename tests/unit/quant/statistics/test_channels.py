from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from infopt.errors import QuantizationError
from infopt.quant.statistics.channels import ChannelStatistics


def of(axis: int, *batches: np.ndarray) -> ChannelStatistics:
    found = ChannelStatistics(axis)
    for batch in batches:
        found.update(batch)
    return found


def same(a: ChannelStatistics, b: ChannelStatistics) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip(a.state().values(), b.state().values(), strict=True)
    )


@settings(deadline=None)
@given(
    values=arrays.arrays(
        np.float32, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(width=32)
    ),
    data=st.data(),
)
def test_only_the_multiset_of_values_counts(values: np.ndarray, data: st.DataObject) -> None:
    whole = of(-1, values)
    shuffled = values[data.draw(st.permutations(range(len(values))))]
    assert same(of(-1, *shuffled), whole)
    merged = ChannelStatistics(-1)
    for shard in np.array_split(shuffled, 4):
        merged.merge(of(-1, shard))
    assert same(merged, whole)
    for channel in range(3):
        finite = [float(x) for x in values[:, channel] if np.isfinite(x)]
        assert whole.count[channel] == len(finite)
        if finite:
            exact = sum(map(Fraction, finite), Fraction(0)) / len(finite)
            assert whole.mean[channel] == float(exact)
            exact = sum((Fraction(abs(x)) for x in finite), Fraction(0)) / len(finite)
            assert whole.mean_magnitude[channel] == float(exact)
            assert (whole.low[channel], whole.high[channel]) == (min(finite), max(finite))
            assert whole.magnitude[channel] == max(map(abs, finite))


def test_four_shards_are_one_pass_and_batches_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    samples = (rng.standard_t(3, (64, 7, 24)) * np.exp(rng.normal(0, 3, 24))).astype(np.float32)
    whole = of(2, samples)
    assert same(of(-1, *samples), of(-1, samples))
    assert same(of(2, *np.split(samples, 32)), whole)
    merged = ChannelStatistics(2)
    for index in (2, 0, 3, 1):
        merged.merge(of(2, samples[index::4]))
    assert same(merged, whole)
    means = samples.astype(np.float64).mean(axis=(0, 1))
    np.testing.assert_allclose(whole.mean, means, rtol=1e-12)
    means = np.abs(samples.astype(np.float64)).mean(axis=(0, 1))
    np.testing.assert_allclose(whole.mean_magnitude, means, rtol=1e-12)


@pytest.mark.parametrize(
    "shape", [(5, 3, 40, 41), (2, 300, 13, 13), (9000, 2), (1, 70000), (70000, 1), (3,)]
)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_every_shape_and_axis(shape: tuple[int, ...], axis: int) -> None:
    if axis >= len(shape):
        return
    values = np.random.default_rng(4).normal(0.5, 1, shape).astype(np.float32)
    found = of(axis, values)
    others = tuple(index for index in range(len(shape)) if index != axis % len(shape))
    assert np.array_equal(found.low, values.min(axis=others))
    assert np.array_equal(found.high, values.max(axis=others))
    assert (found.count == values.size // shape[axis]).all()
    np.testing.assert_allclose(found.mean, values.mean(axis=others, dtype=np.float64), rtol=1e-9)


def test_values_that_are_not_finite_are_left_out() -> None:
    found = of(-1, np.array([[1, np.nan, np.nan], [3, 5, np.inf]], np.float32))
    assert found.nonfinite == 3
    assert found.count.tolist() == [2, 1, 0]
    assert found.mean.tolist() == [2, 5, 0]
    assert found.magnitude.tolist() == [3, 5, 0]


def test_huge_and_tiny_values() -> None:
    found = of(-1, np.array([[3e38, 1e-45], [3e38, 0], [-3e38, 0]], np.float32))
    assert found.mean.tolist() == [float(np.float32(3e38)) / 3, float(np.float32(1e-45)) / 3]


def test_states_come_back() -> None:
    found = of(1, np.random.default_rng(0).normal(0, 1, (4, 5, 6)).astype(np.float32))
    assert same(ChannelStatistics.from_state(found.state()), found)
    empty = ChannelStatistics.from_state(ChannelStatistics(3).state())
    assert empty.axis == 3
    with pytest.raises(QuantizationError, match="nothing was observed"):
        _ = empty.low


def test_damaged_states_are_refused() -> None:
    state = of(1, np.ones((2, 3), np.float32)).state()
    for name, value, message in (
        ("high", np.ones(2, np.float32), "'high'"),
        ("low", np.full(3, np.inf, np.float32), "a range without values"),
        ("count", np.full(3, -1), "a count is negative"),
        ("total", np.zeros((2, 3), np.int64), "'total'"),
    ):
        with pytest.raises(QuantizationError, match=message):
            ChannelStatistics.from_state({**state, name: value})


def test_channels_stay_the_same() -> None:
    found = of(1, np.ones((2, 3), np.float32))
    with pytest.raises(QuantizationError, match="has 4 channels on axis 1, before it had 3"):
        found.update(np.ones((2, 4), np.float32))
    with pytest.raises(QuantizationError, match="axis -1 and 1 do not merge"):
        found.merge(ChannelStatistics(-1))
    with pytest.raises(QuantizationError, match="no axis 1"):
        found.update(np.ones(3, np.float32))
