from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

import pytest

from infopt.errors import CompileError
from infopt.measure.fresh import first_answers
from infopt.measure.memory import ChildRun


def never(taken: Mapping[str, Sequence[float]]) -> bool:
    return False


def stand_in(command: Sequence[str]) -> ChildRun:
    stand_in.calls.append(command[0])  # type: ignore[attr-defined]
    number = len(stand_in.calls)  # type: ignore[attr-defined]
    return ChildRun(float(command[1]), 1000 + number, 0, "", "")


def test_rounds_are_shuffled_and_the_least_memory_counts() -> None:
    stand_in.calls = []  # type: ignore[attr-defined]
    found = first_answers(
        {"a": ["a", "2"], "b": ["b", "1"]},
        seconds=100.0,
        enough=lambda taken: len(taken["a"]) == 6,
        run=stand_in,
        clock=lambda: 0.0,
    )
    assert found.seconds == {"a": (2.0,) * 6, "b": (1.0,) * 6}
    calls = stand_in.calls  # type: ignore[attr-defined]
    rounds = {tuple(calls[i : i + 2]) for i in range(0, 12, 2)}
    assert rounds == {("a", "b"), ("b", "a")}
    assert found.peak_rss["a"] == 1001 + calls.index("a")


def test_the_time_budget_leaves_the_least_number_of_rounds() -> None:
    found = first_answers(
        {"a": ["a", "2"]},
        seconds=0.0,
        enough=never,
        rounds=4,
        run=lambda _: ChildRun(1, 1, 0, "", ""),
    )
    assert len(found.seconds["a"]) == 4


def test_a_process_that_fails_is_an_error_with_its_last_words() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such engine')"]
    with pytest.raises(CompileError, match=r"a does not answer .* no such engine"):
        first_answers({"a": command}, seconds=1.0, enough=never)


def test_real_processes() -> None:
    script = "import os; held = bytearray(50 << 20); os._exit(0)"
    commands = {"small": [sys.executable, "-c", "pass"], "large": [sys.executable, "-c", script]}
    found = first_answers(commands, seconds=0.1, enough=never, rounds=1)
    assert found.peak_rss["large"] - found.peak_rss["small"] > 40 << 20
    assert all(series[0] > 0 for series in found.seconds.values())
