from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from infopt.quant.statistics.exact import DIGIT, UNITS, ExactSum, cuts

FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def summed(*parts: np.ndarray) -> ExactSum:
    found = ExactSum(1)
    for part in parts:
        largest = float(np.abs(part).max(initial=0))
        for unit, sums, _ in cuts(part.reshape(1, 1, -1), largest):
            found.add(sums, unit)
    found.carry()
    return found


def value(total: ExactSum) -> Fraction:
    digits = total.digits[:, 0].tolist()
    return sum(
        (Fraction(digit) * Fraction(2) ** unit for digit, unit in zip(digits, UNITS, strict=True)),
        Fraction(0),
    )


@settings(deadline=None)
@given(arrays.arrays(np.float32, st.integers(1, 40), elements=FINITE), st.integers(0, 40))
def test_sums_are_exact_and_equal_sums_are_equal_digits(values: np.ndarray, cut: int) -> None:
    exact = sum((Fraction(float(x)) for x in values), Fraction(0))
    whole = summed(values)
    assert value(whole) == exact
    assert (whole.digits[:-1] >= 0).all()
    assert (whole.digits[:-1] < 2**DIGIT).all()
    first, second = summed(values[:cut]), summed(values[:cut:-1], values[cut : cut + 1])
    second.merge(first)
    assert np.array_equal(second.digits, whole.digits)
    quotient = whole.divided(np.array([values.size]))
    assert quotient[0] == float(exact / values.size)


def test_many_additions_do_not_overflow() -> None:
    found = ExactSum(2)
    largest = float(np.finfo(np.float32).max)
    for _ in range(5000):
        values = np.full((1, 2, 4096), [[[largest], [-largest]]], np.float32)
        for unit, sums, _ in cuts(values, largest):
            found.add(sums, unit)
    found.carry()
    assert found.divided(np.array([5000 * 4096, 5000 * 4096])).tolist() == [largest, -largest]


def test_a_count_of_nothing() -> None:
    assert ExactSum(2).divided(np.zeros(2, np.int64)).tolist() == [0, 0]
