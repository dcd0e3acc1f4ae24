import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from infopt.errors import QuantizationError
from infopt.quant.statistics.histogram import BINS, CHUNK, HELD, Histogram, observed

FLOATS = st.floats(width=32)
VALUES = arrays.arrays(np.float32, st.integers(0, 60), elements=FLOATS)


def of(*batches: np.ndarray) -> Histogram:
    found = Histogram()
    for batch in batches:
        found.update(batch)
    return found


def same(a: Histogram, b: Histogram) -> bool:
    return all(
        np.array_equal(x, y) for x, y in zip(a.state().values(), b.state().values(), strict=True)
    )


@settings(deadline=None)
@given(values=VALUES, cuts=st.lists(st.integers(0, 60), max_size=4), data=st.data())
def test_only_the_multiset_of_values_counts(
    values: np.ndarray, cuts: list[int], data: st.DataObject
) -> None:
    whole = of(values)
    shuffled = values[data.draw(st.permutations(range(values.size)))]
    ends = sorted({0, values.size, *(cut for cut in cuts if cut <= values.size)})
    shards = [of(shuffled[start:stop]) for start, stop in pairwise(ends)]
    assert same(of(shuffled), whole)
    assert same(of(*np.array_split(shuffled, 3)), whole)
    merged = Histogram()
    for shard in shards:
        merged.merge(shard)
    assert same(merged, whole)


@pytest.mark.parametrize(
    "size", [1, 700, HELD // 3, HELD // 2, HELD - 1, HELD, HELD + 1, CHUNK + 1]
)
def test_what_is_held_back_is_counted_whenever_somebody_looks(size: int) -> None:
    rng = np.random.default_rng(size)
    values = rng.standard_t(3, 3 * HELD + 100).astype(np.float64)
    values[::1000] = np.nan
    batches = np.split(values, range(size, values.size, size)[:2000])
    exact = values[np.isfinite(values)].astype(np.float32)
    found, looked = Histogram(), Histogram()
    for number, batch in enumerate(batches):
        for histogram in (found, looked):
            given_array = batch.copy()
            histogram.update(given_array)
            given_array[:] = 1e30  # it is the caller's
        if number % 50 == 0:
            seen = values[: sum(map(len, batches[: number + 1]))]
            assert looked.count + looked.nonfinite == seen.size
            assert looked.high == np.nanmax(seen.astype(np.float32), initial=-np.inf)
    assert same(found, looked)
    assert (found.count, found.low, found.high) == (exact.size, exact.min(), exact.max())
    assert same(found, of(values))


def test_four_shards_are_one_pass_and_batches_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    scales = np.exp(rng.normal(0, 2, (64, 1, 1)))
    samples = (rng.standard_t(3, (64, 16, 50)) * scales).astype(np.float32)
    whole = of(samples)
    assert same(of(*samples), whole)
    assert same(of(*np.split(samples, 2)), whole)
    shards = [of(*np.split(samples[index::4], 4)) for index in range(4)]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        merged = Histogram()
        for index in order:
            merged.merge(shards[index])
        assert same(merged, whole)


def test_the_counts_are_those_of_the_definition() -> None:
    values = np.random.default_rng(1).normal(0, 3, 5000).astype(np.float32)
    found = of(values)
    bins = np.trunc(values.astype(np.float64) / found.width).astype(int)
    expected = np.bincount(bins + BINS - 1, minlength=2 * BINS - 1)
    assert np.array_equal(found.counts, expected)
    most = float(np.abs(values).max())
    assert BINS / 2 <= most / found.width < BINS
    assert (found.low, found.high, found.count) == (values.min(), values.max(), 5000)


@pytest.mark.parametrize(
    "most", [1.0, 4096.0, 4095.9998, 1e-45, 1e-37, 1e30, float(np.finfo(np.float32).max)]
)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_value_has_a_bin(most: float, sign: int) -> None:
    found = of(np.array([sign * most, 0, sign * most / 2], np.float32))
    assert found.count == 3
    assert found.width * BINS > most
    assert found.zeros == 2 - (np.float32(most / 2) != 0)
    assert same(Histogram.from_state(found.state()), found)


def test_zeros_are_counted_exactly_whatever_their_sign() -> None:
    a, b = np.array([0.0, -0.0, 1e-45, 5], np.float32), np.array([-0.0, 0.0], np.float32)
    assert of(a).zeros == 2
    assert math.copysign(1, of(b).low) == 1
    assert same(of(b), of(b[::-1]))


def test_values_that_are_not_finite_are_counted_apart() -> None:
    found = of(np.array([1, np.nan, np.inf, -np.inf, -2], np.float32), np.array([1e300]))
    assert (found.nonfinite, found.count, found.low, found.high) == (4, 2, -2, 1)
    nothing = of(np.full(3, np.nan, np.float32))
    assert (nothing.nonfinite, nothing.count) == (3, 0)
    with pytest.raises(QuantizationError, match="nothing was observed"):
        observed(nothing)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_other_float_types(dtype: type) -> None:
    values = np.random.default_rng(2).normal(0, 1, (30, 40)).astype(np.float16)
    assert same(of(values.astype(dtype)), of(values))


def test_layouts_do_not_matter() -> None:
    values = np.random.default_rng(2).normal(0, 1, (30, 40, 3)).astype(np.float32)
    assert same(of(values.transpose(2, 0, 1)), of(values))
    assert same(of(values[::2, ::-1]), of(values[::2].copy()))
    assert same(of(np.array(3, np.float32)), of(np.array([3], np.float32)))
    assert same(of(np.zeros((0, 4), np.float32)), Histogram())


def test_long_arrays_are_taken_in_parts() -> None:
    values = np.random.default_rng(3).normal(0, 1, 2 * CHUNK + 17).astype(np.float32)
    values[-1] = 1000
    parts = np.split(values, [100, CHUNK + 5])
    assert same(of(values), of(*parts))


def test_arrays_are_left_as_they_are() -> None:
    values = np.linspace(-1, 1, 100, dtype=np.float32)
    values.flags.writeable = False
    found = of(values)
    with pytest.raises(ValueError, match="read-only"):
        found.counts[0] = 1


def test_a_state_comes_back() -> None:
    found = of(np.random.default_rng(0).normal(0, 1, 99).astype(np.float32))
    again = Histogram.from_state(found.state())
    assert same(again, found)
    again.update(np.array([1e6], np.float32))
    found.update(np.array([1e6], np.float32))
    assert same(again, found)
    assert same(Histogram.from_state(Histogram().state()), Histogram())


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("counts", None, "lack 'counts'"),
        ("counts", np.zeros(7, np.int64), r"int64\[7\], expected int64\[8191\]"),
        ("counts", np.full(2 * BINS - 1, -1), "a count is negative"),
        ("range", np.array([0, 1], np.float64), "'range' of the saved statistics is float64"),
        ("range", np.array([1, np.inf], np.float32), "the range is none"),
        ("range", np.array([0, 1000], np.float32), "the width does not fit"),
        ("zeros", np.array(10**6, np.int64), "more zeros"),
        ("exponent", np.array(3, np.int64), "the width does not fit"),
    ],
)
def test_damaged_states_are_refused(name: str, value: np.ndarray | None, message: str) -> None:
    state = of(np.array([0, 1, 2], np.float32)).state()
    if value is None:
        del state[name]
    else:
        state[name] = value
    with pytest.raises(QuantizationError, match=message):
        Histogram.from_state(state)
