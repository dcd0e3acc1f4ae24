"""Limits and metrics as a user writes them, and mistakes in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infopt.errors import DataError, UsageError
from infopt.evidence.equivalence import Budget
from infopt.tuning.limits import Limits, limits
from infopt.tuning.metric import metric_of

USUAL = Budget(math.inf, 10.0)


def _zero(outputs: Sequence[Any], inputs: Sequence[Any]) -> float:
    return 0.0


def _of(max_error: float | str) -> Budget:
    found = limits(max_error, None, None, usual=USUAL, data=False)
    assert found is not None
    return found.error


def test_a_relative_error_or_decibels() -> None:
    assert _of(0.05) == _of("0.05") == _of(" 5e-2 ") == Budget(0.05, 10.0)
    assert _of("25dB") == _of("25 db") == _of("2.5e1DB") == Budget(math.inf, 25.0)
    assert _of("5dB") == USUAL  # what has to hold in any case is more
    assert limits(None, None, None, usual=USUAL, data=True) is None


@pytest.mark.parametrize(
    "wrong", ["", "much", "-0.1", -1.0, math.nan, math.inf, "dB", "1..2", "--1"]
)
def test_errors_that_are_no_bound(wrong: float | str) -> None:
    with pytest.raises(UsageError, match="is no bound; write a relative error"):
        _of(wrong)


@pytest.mark.parametrize(
    ("arguments", "data", "said"),
    [
        ((None, 0.1, None), True, "give both --max-drop and --metric"),
        ((0.1, None, _zero), True, "give both --max-drop and --metric"),
        ((None, -0.1, _zero), True, "at least 0, not -0.1"),
        ((None, math.nan, _zero), True, "at least 0, not nan"),
        ((None, 0.1, _zero), False, "made-up inputs; give --data"),
        ((None, 0.1, "module"), True, "write module:function"),
        ((None, 0.1, 5), True, "write module:function"),
    ],
)
def test_limits_that_make_no_sense(arguments: tuple[Any, Any, Any], data: bool, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        limits(*arguments, usual=USUAL, data=data)


def test_in_words_and_for_json() -> None:
    found = limits("0.05", 0.01, _zero, usual=USUAL, data=True)
    assert str(found) == "a relative error of 0.05 and 10 dB and a loss of 0.01 of _zero"
    assert found is not None
    assert found.as_dict() == {
        "max_relative": 0.05,
        "sqnr_db": 10.0,
        "drop": 0.01,
        "metric": "_zero",
    }
    assert Limits(Budget(0.5)).as_dict() == {"max_relative": 0.5}


def test_a_metric_from_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "def score(outputs, inputs):\n    return sum(o['y'] for o in outputs) + len(inputs)\n"
    (tmp_path / "my_metric.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    metric = metric_of("my_metric:score")
    assert metric is not None
    assert (metric.name, metric([{"y": 2}], [{}])) == ("my_metric:score", 3.0)
    with pytest.raises(DataError, match="metric 'my_metric:scor'.*did you mean 'score'"):
        metric_of("my_metric:scor")
    with pytest.raises(DataError, match="metric 'no_such:f': module 'no_such' cannot be imported"):
        metric_of("no_such:f")


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (math.nan, "returned nan; it must return a finite number"),
        (-math.inf, "returned -inf"),
        (None, "returned a NoneType"),
        (True, "returned a bool"),
        ("0.5", "returned a str"),
        (np.ones(2), "returned a ndarray"),
    ],
)
def test_a_metric_that_returns_something_else(returned: Any, said: str) -> None:
    metric = metric_of(lambda outputs, inputs: returned)
    assert metric is not None
    with pytest.raises(UsageError, match=said):
        metric([], [])


def test_a_metric_that_fails() -> None:
    metric = metric_of(lambda outputs, inputs: outputs[0]["logits"])
    assert metric is not None
    with pytest.raises(UsageError, match="failed with KeyError: 'logits'; it is called with two"):
        metric([{"y": 1}], [{}])


def test_numbers_of_numpy_are_numbers() -> None:
    for number in (np.float32(0.5), np.float64(0.5)):
        metric = metric_of(lambda outputs, inputs, number=number: number)
        assert metric is not None
        assert metric([], []) == 0.5
