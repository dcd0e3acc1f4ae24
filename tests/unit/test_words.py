import math

import pytest

from infopt import words


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "", "0"),
        (7, "B", "7 B"),
        (999, "", "999"),
        (1000, "", "1.00 k"),
        (12_345, "B", "12.3 kB"),
        (999_499, "", "999 k"),
        (999_500, "", "1.00 M"),
        (22_713_216, "", "22.7 M"),
        (437_000_000, "B", "437 MB"),
        (22.42e9, "FLOPs", "22.4 GFLOPs"),
        (5e18, "", "5000 P"),
        (2.5, "", "2.50"),
    ],
)
def test_quantities_have_three_digits(value: float, unit: str, text: str) -> None:
    assert words.quantity(value, unit) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 µs"),
        (4.12e-4, "412 µs"),
        (0.00321, "3.21 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (12.34, "12.3 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 00 s"),
        (125, "2 min 05 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (2.14e-7, "2.1e-07"), (math.inf, "∞"), (-math.inf, "-∞"), (math.nan, "nan")],
)
def test_figures(value: float, text: str) -> None:
    assert words.figure(value) == text


def test_counts() -> None:
    assert words.count(1, "node") == "1 node"
    assert words.count(1234, "node") == "1,234 nodes"
    assert words.count(2, "pass", "passes") == "2 passes"


def test_shapes() -> None:
    assert words.shape(("batch", 3, None)) == "batch×3×?"
    assert words.shape(()) == "scalar"
    assert words.shape(None) == "?"
