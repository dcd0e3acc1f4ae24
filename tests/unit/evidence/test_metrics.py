import math

import ml_dtypes
import numpy as np
import pytest

from infopt.evidence.metrics import EQUAL, UNEQUAL, OutputKind, difference


def test_equal_arrays_are_equal_in_every_metric() -> None:
    x = np.array([1.0, np.nan, np.inf, -0.0], np.float32)
    assert difference(x, x.copy()) == EQUAL


def test_figures_by_hand() -> None:
    found = difference(np.array([3.0, 4.5]), np.array([3.0, 4.0]))
    assert found.max_absolute == 0.5
    assert found.max_relative == 0.125
    assert found.sqnr_db == pytest.approx(10 * math.log10(25 / 0.25))
    assert found.cosine == pytest.approx((9 + 18) / (5 * math.hypot(3, 4.5)))
    assert found.top1 is None


def test_huge_and_tiny_values_stay_in_range() -> None:
    b = np.array([1e300, -1e300])
    assert difference(b * (1 + 1e-10), b).max_relative == pytest.approx(1e-10)
    b = np.array([1e-300, 2e-300])
    found = difference(b * (1 + 1e-10), b)
    assert found.max_relative == pytest.approx(1e-10)
    assert math.isfinite(found.sqnr_db)


@pytest.mark.parametrize(
    ("computed", "reference"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.zeros(2, np.float32), np.zeros(2, np.float64)),
        (np.array([1.0, np.nan]), np.array([1.0, 2.0])),
        (np.array([1.0, 2.0]), np.array([1.0, np.nan])),
        (np.array([np.inf]), np.array([-np.inf])),
        (np.array([1, 2]), np.array([1, 3])),
        (np.array(["a"], object), np.array(["b"], object)),
        ([np.zeros(1)], [np.zeros(1), np.zeros(1)]),
        (None, np.zeros(1)),
    ],
)
def test_another_shape_type_or_kind_of_value_is_infinitely_far(
    computed: object, reference: object
) -> None:
    assert difference(computed, reference) == UNEQUAL


def test_an_error_where_the_reference_is_zero_is_infinite_unless_there_is_a_scale() -> None:
    a, b = np.array([1e-7]), np.array([0.0])
    assert difference(a, b).max_relative == math.inf
    assert difference(a, b, OutputKind(full_scale=1.0)).max_relative == pytest.approx(1e-7)


def test_saturated_outputs_are_judged_on_the_scale_of_their_function() -> None:
    a, b = np.array([3.0e-6, 1e-7]), np.array([3.1e-6, 1e-7])
    assert difference(a, b).max_relative > 0.03
    assert difference(a, b, OutputKind(full_scale=1.0)).max_relative == pytest.approx(1e-7)


def test_top1_counts_rows() -> None:
    b = np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    a = b.copy()
    a[0] = [0.6, 0.5]
    assert difference(a, b, OutputKind(class_scores=True)).top1 == 0.75


def test_bfloat16_is_floating_point() -> None:
    b = np.array([1.0, 2.0], ml_dtypes.bfloat16)
    found = difference(np.array([1.0, 2.015625], ml_dtypes.bfloat16), b)
    assert found.max_relative == pytest.approx(0.0078125)


def test_sequences_and_maps_are_compared_inside() -> None:
    b = {"k": [np.array([1.0]), np.array([2.0])]}
    assert difference({"k": [np.array([1.0]), np.array([2.5])]}, b).max_absolute == 0.5
    assert difference(b, b) == EQUAL


def test_worse_takes_the_worst_of_each() -> None:
    near = difference(np.array([[1.0, 2.0]]), np.array([[1.0, 2.1]]), OutputKind(class_scores=True))
    far = difference(np.array([[9.0, 2.0]]), np.array([[1.0, 2.0]]), OutputKind(class_scores=True))
    both = near.worse(far)
    assert both == far.worse(near)
    assert both.top1 == 0.0
    assert both.max_absolute == 8.0
