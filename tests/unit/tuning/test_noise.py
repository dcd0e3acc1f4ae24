"""Noise over samples, and where there is none to speak of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infopt.tuning.noise import Noise


def test_signal_and_noise_are_added_up_over_samples() -> None:
    noise = Noise()
    noise.add({"y": np.array([1, 2], np.float32)}, {"y": np.array([1, 1], np.float32)})
    noise.add({"y": np.array([4, 4], np.float32)}, {"y": np.array([4, 4], np.float32)})
    assert noise.sqnr_db == pytest.approx(10 * math.log10(34 / 1))
    assert noise.max_relative == 1


def test_the_worst_output_counts() -> None:
    noise = Noise()
    right = {"a": np.array([1, 1], np.float32), "b": np.array([1, 1], np.float32)}
    noise.add({"a": np.array([1, 1.1], np.float32), "b": np.array([1, 1.01], np.float32)}, right)
    assert noise.sqnr_db == pytest.approx(10 * math.log10(2 / 0.01), abs=1e-4)


def test_complex_numbers() -> None:
    noise = Noise()
    noise.add({"y": np.array([1 + 1j], np.complex64)}, {"y": np.array([1], np.complex64)})
    assert noise.sqnr_db == pytest.approx(0)


@pytest.mark.parametrize(
    ("computed", "right", "expected"),
    [
        ([1, 2], [1, 2], math.inf),
        ([1, np.nan], [1, 2], -math.inf),
        ([1, np.inf], [1, np.inf], math.inf),
        ([3, np.inf], [2, np.inf], 10 * math.log10(4)),
        ([1], [1, 2], -math.inf),
        ([1, 0], [0, 0], -math.inf),
        ([], [], math.inf),
    ],
)
def test_odd_numbers(computed: list[float], right: list[float], expected: float) -> None:
    noise = Noise()
    noise.add({"y": np.array(computed, np.float32)}, {"y": np.array(right, np.float32)})
    assert noise.sqnr_db == pytest.approx(expected)
    assert noise.judged


def test_integers_and_sequences_say_nothing() -> None:
    noise = Noise()
    noise.add({"y": np.array([2]), "s": [np.ones(1)]}, {"y": np.array([1]), "s": [np.zeros(1)]})
    assert not noise.judged
