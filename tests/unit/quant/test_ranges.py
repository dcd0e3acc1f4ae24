import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx_ir import DataType

from infopt.errors import QuantizationError
from infopt.quant.affine import fake_quantize, parameters
from infopt.quant.ranges import _Bins, _divergence, entropy, find_range, min_max, mse, percentile
from infopt.quant.scheme import RangeMethod
from infopt.quant.spec import QuantSpec
from infopt.quant.statistics.histogram import BINS, Histogram

INT8 = QuantSpec(DataType.INT8)
UINT8 = QuantSpec(DataType.UINT8, symmetric=False)
SPECS = [
    INT8,
    UINT8,
    QuantSpec(DataType.UINT8),
    QuantSpec(DataType.INT8, symmetric=False),
    QuantSpec(DataType.INT4),
    QuantSpec(DataType.FLOAT8E4M3FN),
]
METHODS: list[RangeMethod] = ["min-max", "percentile", "entropy", "mse"]

rng = np.random.default_rng(0)
NORMAL = rng.normal(0, 1, 100_000).astype(np.float32)
HEAVY = rng.standard_t(3, 100_000).astype(np.float32)
RELU = np.maximum(HEAVY, 0)
SKEWED = np.concatenate([rng.gamma(2, 1, 50_000), rng.normal(0, 0.1, 50_000)]).astype(np.float32)
OUTLIERS = np.concatenate([NORMAL, [-90, 100, 80]]).astype(np.float32)
DATA = {"normal": NORMAL, "heavy": HEAVY, "relu": RELU, "skewed": SKEWED, "outliers": OUTLIERS}


def of(values: np.ndarray) -> Histogram:
    found = Histogram()
    found.update(values)
    return found


def error(values: np.ndarray, ends: tuple[float, float], spec: QuantSpec) -> float:
    """The mean squared error itself, of the values and not of a histogram."""
    back = fake_quantize(values, parameters(*ends, spec), spec).astype(np.float64)
    return float(np.mean((back - values) ** 2))


@pytest.mark.parametrize("percent", [90, 99, 99.9, 99.99])
@pytest.mark.parametrize("name", DATA)
def test_percentiles_are_those_of_the_values(name: str, percent: float) -> None:
    values, seen = DATA[name], of(DATA[name])
    outside = round((100 - percent) / 100 * values.size)

    def holds(end: float, magnitudes: np.ndarray, outside: int) -> bool:
        """Whether ``end`` leaves out ``outside`` of them, but for a bin's width."""
        exact = np.sort(magnitudes)[::-1][outside]
        return bool(exact <= end <= exact + seen.width)

    low, high = percentile(seen, INT8, percent)
    assert holds(max(-low, high), np.abs(values), outside)
    low, high = percentile(seen, UINT8, percent)
    if values.min() >= 0:
        assert holds(high, values, outside)
    else:
        assert holds(high, values, outside // 2)
        assert holds(-low, -values, outside // 2)


def test_a_percentile_of_all_is_minimum_and_maximum() -> None:
    seen = of(SKEWED)
    assert percentile(seen, UINT8, 100) == min_max(seen) == (SKEWED.min(), SKEWED.max())
    for percent in (0, -1, 101, math.nan):
        with pytest.raises(QuantizationError, match=r"within \(0, 100\]"):
            percentile(seen, INT8, percent)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("name", DATA)
def test_mse_finds_nearly_the_least_error(name: str, spec: QuantSpec) -> None:
    values = DATA[name]
    low, high = mse(of(values), spec)
    found = error(values, (low, high), spec)
    assert found <= error(values, (values.min(), values.max()), spec) * (1 + 1e-3)
    most = float(np.abs(values).max())
    for part in np.geomspace(1, 0.01, 60):
        ends = max(-part * most, values.min()), min(part * most, values.max())
        assert found <= error(values, ends, spec) * 1.03


def test_mse_moves_both_ends_of_an_asymmetric_range() -> None:
    values = np.concatenate([NORMAL, [-40], np.full(5, 60), [90]]).astype(np.float32)
    spec = QuantSpec(DataType.UINT4, symmetric=False)
    low, high = mse(of(values), spec)
    found = error(values, (low, high), spec)
    least = min(
        error(values, (-40 * a, 90 * b), spec)
        for a in np.geomspace(1, 0.03, 25)
        for b in np.geomspace(1, 0.03, 25)
    )
    assert found <= least * 1.05


@pytest.mark.parametrize("name", DATA)
def test_mse_clips_the_more_the_fewer_bits(name: str) -> None:
    seen = of(DATA[name])
    assert mse(seen, QuantSpec(DataType.INT4))[1] < mse(seen, INT8)[1]


@pytest.mark.parametrize("spec", [INT8, UINT8], ids=str)
def test_entropy_keeps_what_has_no_tail_and_cuts_one_off(spec: QuantSpec) -> None:
    low, high = entropy(of(NORMAL), spec)
    assert 3 < high <= NORMAL.max()
    assert NORMAL.min() <= low < -3
    low, high = entropy(of(OUTLIERS), spec)
    assert 2.5 < high < 20
    assert -20 < low < -2.5
    low, high = entropy(of(np.abs(OUTLIERS)), spec)
    assert low == 0
    assert 2.5 < high < 20


def test_the_divergence_is_that_of_the_definition() -> None:
    values = np.round(np.abs(HEAVY[:3000]), 2)  # with empty bins
    seen = of(values)
    counts = seen.counts[BINS - 1 :].copy()
    counts[0] -= seen.zeros
    ends = np.array([BINS - 1, 3000, 1500, 700, 300, 256])
    found = _divergence(_Bins.of(seen), UINT8, np.zeros(ends.size), ends * seen.width)
    for end, divergence in zip(ends, found, strict=True):
        step = float(parameters(0, end * seen.width, UINT8).scale) / seen.width
        expected = reference_divergence(counts, int(end), step)
        assert divergence == pytest.approx(expected, rel=1e-5, abs=1e-7)


def reference_divergence(counts: np.ndarray, threshold: int, step: float) -> float:
    """Of 256 levels from 0 to ``threshold`` bins, of which the first and last are half as wide."""
    edges = (np.arange(255) + 0.5) * step
    p = counts[:threshold].astype(float)
    p[-1] += counts[threshold:].sum()
    q = np.zeros(threshold)
    cells = np.searchsorted(edges, np.arange(threshold) + 0.5)
    for cell in np.unique(cells):
        inside = cells == cell
        used = inside & (p > 0)
        if used.any():
            q[used] = max(counts[:threshold][inside].sum(), 1e-4) / used.sum()
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(
    "values",
    [
        [0],
        [0, 0, 0],
        [3.5],
        [-3.5] * 9,
        [1e-45],
        [1e-38, -1e-38],
        [1e30, -2e30, 0],
        [3.4e38, -3.4e38],
        [5, 6, 7],
    ],
    ids=str,
)
def test_every_method_knows_odd_data(
    method: RangeMethod, spec: QuantSpec, values: list[float]
) -> None:
    array = np.array(values, np.float32)
    low, high = find_range(of(array), method, spec)
    assert min(array.min(), 0) <= low <= high <= max(array.max(), 0)
    params = parameters(low, high, spec)
    assert np.isfinite(fake_quantize(array, params, spec)).all()


@pytest.mark.parametrize("value", [3.5, -3.5, 1e-30, 1e30])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_constant_stays_what_it_is(method: RangeMethod, spec: QuantSpec, value: float) -> None:
    array = np.full(100, value, np.float32)
    back = fake_quantize(array, parameters(*find_range(of(array), method, spec), spec), spec)
    np.testing.assert_allclose(back, array, rtol=0.02)


@pytest.mark.parametrize("method", METHODS)
def test_nothing_has_no_range(method: RangeMethod) -> None:
    with pytest.raises(QuantizationError, match="nothing was observed"):
        find_range(Histogram(), method, INT8)


@settings(deadline=None, max_examples=100)
@given(
    values=arrays.arrays(
        np.float32,
        st.integers(1, 50),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    spec=st.sampled_from(SPECS),
    method=st.sampled_from(METHODS),
    exponent=st.integers(-20, 20),
)
def test_ranges_scale_with_the_values(
    values: np.ndarray, spec: QuantSpec, method: RangeMethod, exponent: int
) -> None:
    low, high = find_range(of(values), method, spec)
    assert min(values.min(), 0) <= low <= high <= max(values.max(), 0)
    scaled = np.ldexp(values.astype(np.float64), exponent)
    most = sorted((np.abs(values).max(), np.abs(scaled).max()))
    if most[0] > 1e-30 and most[1] < 1e38 and np.array_equal(scaled.astype(np.float32), scaled):
        again = find_range(of(scaled), method, spec)
        assert again == pytest.approx((math.ldexp(low, exponent), math.ldexp(high, exponent)))


def test_percentiles_reach_the_function_by_name() -> None:
    seen = of(HEAVY)
    assert find_range(seen, "percentile", INT8, percent=90) == percentile(seen, INT8, 90)
    spec = dataclasses.replace(INT8, narrow=True)
    assert find_range(seen, "min-max", spec) == min_max(seen)
