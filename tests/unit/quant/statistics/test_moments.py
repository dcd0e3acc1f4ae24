import numpy as np
import pytest

from infopt.errors import QuantizationError
from infopt.quant.statistics.moments import SecondMoment


def of(*batches: np.ndarray) -> SecondMoment:
    found = SecondMoment(batches[0].shape[-1])
    for batch in batches:
        found.update(batch)
    return found


def test_it_is_the_mean_of_products() -> None:
    values = np.random.default_rng(0).standard_t(4, (6, 50, 17)).astype(np.float32)
    rows = values.reshape(-1, 17).astype(np.float64)
    found = of(values)
    np.testing.assert_allclose(found.mean, rows.T @ rows / len(rows), rtol=1e-5, atol=1e-6)
    assert found.rows == 300


def test_batches_and_shards_change_rounding_only() -> None:
    values = np.random.default_rng(0).standard_t(4, (64, 9, 33)).astype(np.float32)
    whole, single = of(values), of(*values)
    merged = of(values[::4])
    for index in range(1, 4):
        merged.merge(of(values[index::4]))
    most = np.abs(whole.mean).max()
    for other in (single, merged):
        assert other.rows == whole.rows
        assert np.abs(other.mean - whole.mean).max() < 1e-6 * most


def test_squares_that_leave_float32() -> None:
    found = of(np.full((3, 2), 1e30, np.float32))
    np.testing.assert_allclose(found.mean, np.full((2, 2), 1e60), rtol=1e-6)


def test_rows_that_are_not_finite_are_left_out() -> None:
    found = of(np.array([[1, np.nan], [2, 3], [np.inf, 0]], np.float32))
    assert (found.rows, found.nonfinite) == (1, 2)
    assert found.mean.tolist() == [[4, 6], [6, 9]]


def test_states_come_back() -> None:
    found = of(np.random.default_rng(0).normal(0, 1, (4, 5)).astype(np.float32))
    again = SecondMoment.from_state(found.state())
    assert np.array_equal(again.mean, found.mean)
    assert again.rows == 4
    for name, value, message in (
        ("sum", np.zeros((2, 3)), "not square"),
        ("sum", np.full((2, 2), np.nan), "not finite"),
        ("rows", np.array(-1), "negative"),
    ):
        with pytest.raises(QuantizationError, match=message):
            SecondMoment.from_state({**found.state(), name: value})


def test_rows_that_do_not_fit() -> None:
    with pytest.raises(QuantizationError, match=r"5 features expected, got shape \[5, 4\]"):
        SecondMoment(5).update(np.zeros((5, 4), np.float32))
    with pytest.raises(QuantizationError, match="do not merge"):
        SecondMoment(5).merge(SecondMoment(4))
    with pytest.raises(QuantizationError, match="no row was observed"):
        _ = SecondMoment(5).mean
