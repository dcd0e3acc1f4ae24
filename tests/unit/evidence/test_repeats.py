"""The same inputs again and again."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from infopt.evidence.equivalence import Inputs, Sample
from infopt.evidence.repeats import BOUND, repeat

SAMPLES = [Sample({"x": np.full(n, 2.0, np.float32)}, f"size {n}") for n in (3, 5)]


def _with(changes: Iterator[float]) -> Any:
    def run(inputs: Inputs) -> dict[str, Any]:
        return {"y": inputs["x"] + np.float32(next(changes)), "z": np.arange(3)}

    return run


def test_the_same_is_the_same() -> None:
    calls = []

    def run(inputs: Inputs) -> dict[str, Any]:
        calls.append(len(inputs["x"]))
        return {"y": 2 * inputs["x"]}

    found = repeat(run, SAMPLES)
    assert found.holds
    assert found.as_dict()["identical"]
    assert found.as_dict()["notes"] == []
    assert found.samples == ("size 3: x=3", "size 5: x=5")
    assert calls == [3, 5] * 10


def test_a_rounding_is_told_and_let_pass() -> None:
    found = repeat(_with(itertools.cycle([0, 0, 1e-5, 0])), SAMPLES)
    assert found.holds
    assert set(found.worst) == {"y"}
    assert found.as_dict()["notes"] == ["y differs by 5.0e-06 from run to run"]


def test_more_than_a_rounding_is_not() -> None:
    found = repeat(_with(itertools.cycle([0, 0, 0, 0, 0.5])), SAMPLES)
    assert not found.holds
    assert found.worst["y"] > BOUND


def test_one_bit_shows_even_where_numbers_are_equal() -> None:
    zeros = itertools.cycle([0.0, 0.0, -0.0, 0.0])
    found = repeat(lambda inputs: {"y": np.array([next(zeros)])}, SAMPLES[:1])
    assert found.worst == {"y": 0.0}


def test_what_is_random_in_the_model_is_passed_over() -> None:
    rng = np.random.default_rng(0)
    found = repeat(lambda inputs: {"y": rng.random(3)}, SAMPLES, skip=["y"])
    assert not found.worst


def test_outputs_that_are_no_arrays() -> None:
    found = repeat(lambda inputs: {"y": [{1: np.ones(2)}]}, SAMPLES)
    assert not found.worst


def test_memory_that_is_used_again_does_not_hide_a_change() -> None:
    shared, numbers = np.zeros(2), itertools.count()

    def run(inputs: Inputs) -> dict[str, Any]:
        shared[...] = next(numbers)
        return {"y": shared}

    assert not repeat(run, SAMPLES).holds
