from collections.abc import Callable

import pytest

from benchmarks.sidebyside.schedule import (
    LEAST_PASSES,
    Budget,
    Burst,
    Series,
    beside,
    passes,
)


class Clock:
    """Time that passes only in calls."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def timer(self, name: str, seconds: float, fails_at: int = -1) -> Callable[[int, int], float]:
        def time(lead: int, count: int) -> float:
            self.calls.append(name)
            if self.calls.count(name) == fails_at:
                raise RuntimeError(f"{name} is gone")
            self.now += seconds * (lead + count)
            return seconds

        return time


@pytest.mark.parametrize(
    ("seconds", "lead", "count"), [(0.001, 1, 20), (0.019, 1, 2), (0.1, 1, 1), (0.3, 0, 1)]
)
def test_short_calls_come_in_bursts_and_long_ones_alone(
    seconds: float, lead: int, count: int
) -> None:
    assert Burst.for_call(seconds) == Burst(lead, count)


def test_every_pass_has_all_workers_in_another_order() -> None:
    clock = Clock()
    timers = {name: clock.timer(name, 0.5) for name in "abcd"}
    samples, raised = passes(timers, 20.0, clock=clock)
    assert not raised
    # The first calls are so long that they count.
    assert {len(series) for series in samples.values()} == {10}
    rounds = [tuple(clock.calls[at : at + 4]) for at in range(0, 40, 4)]
    assert all(sorted(names) == list("abcd") for names in rounds)
    assert len(set(rounds)) > 1


def test_a_few_passes_are_made_however_long_they_take() -> None:
    clock = Clock()
    samples, _ = passes({"slow": clock.timer("slow", 100.0)}, 1.0, clock=clock)
    assert samples == {"slow": [100.0] * LEAST_PASSES}
    assert len(clock.calls) == LEAST_PASSES


def test_long_and_short_calls_beside_each_other_make_pairs() -> None:
    clock = Clock()
    timers = {"slow": clock.timer("slow", 0.3), "a": clock.timer("a", 0.2)}
    samples, _ = passes(timers, 1.0, clock=clock)
    assert {len(series) for series in samples.values()} == {LEAST_PASSES}
    series = Series("a", "again")
    series.add(samples)
    assert series.speed("slow").value == pytest.approx(2 / 3)


def test_the_last_pass_ends_within_the_time() -> None:
    clock = Clock()
    passes({"a": clock.timer("a", 0.3)}, 3.1, clock=clock)
    assert clock.now <= 3.1


@pytest.mark.parametrize("call", [1, 3])
def test_who_fails_is_left_out_from_there_on(call: int) -> None:
    clock = Clock()
    timers = {"a": clock.timer("a", 1.0), "b": clock.timer("b", 1.0, fails_at=call)}
    samples, raised = passes(timers, 4.0, clock=clock)
    assert list(samples) == ["a"]
    assert str(raised["b"]) == "b is gone"
    assert clock.calls.count("b") == call


def test_speeds_are_beside_the_baseline_of_the_same_group() -> None:
    series = Series("base", "again")
    series.add({"base": [1.0, 1.0, 1.0], "again": [1.1, 1.1, 1.1], "a": [0.5, 0.5, 0.5]})
    series.add({"base": [4.0, 4.0, 4.0], "again": [4.0, 4.0, 4.0], "b": [1.0, 1.0, 1.0]}, 1)
    assert series.speed("a").value == pytest.approx(2.0)
    assert series.speed("b").value == pytest.approx(4.0)
    assert series.speed("base").value == 1.0
    assert series.seconds("a") == [0.5] * 3
    assert series.passes("b") == {"group": 1, "passes": [[4.0, 4.0, 4.0]]}


def test_rounds_of_a_group_are_kept_apart_and_one_may_be_missed() -> None:
    series = Series("base", "again")
    series.add({"base": [1.0, 1.0], "a": [0.5, 0.5], "b": [1.0, 1.0]})
    series.add({"base": [8.0, 8.0]}, 1)
    series.add({"base": [2.0, 2.0, 2.0], "b": [0.5, 0.5, 0.5]})
    assert series.passes("a") == {"group": 0, "passes": [[2.0, 2.0], []]}
    assert series.passes("b") == {"group": 0, "passes": [[1.0, 1.0], [4.0, 4.0, 4.0]]}
    assert series.speed("a").value == 2.0
    assert series.speed("b").value == 4.0
    assert series.seconds("base") == [1.0, 1.0, 8.0, 8.0, 2.0, 2.0, 2.0]


def test_a_machine_that_is_slower_in_some_passes_moves_no_speed() -> None:
    series = Series("base", "again")
    busy = [1.0, 1.6, 1.6, 1.0, 1.3, 1.6, 1.0]
    series.add({"base": busy, "a": [0.8 * value for value in busy]})
    speed = series.speed("a")
    assert (speed.value, speed.low, speed.high) == pytest.approx((1.25,) * 3)


def test_of_few_passes_the_interval_is_all_of_them() -> None:
    few = beside([1.0, 1.0, 1.0], [0.5, 0.8, 1.0])
    assert (few.low, few.value, few.high) == (1.0, 1.25, 2.0)
    assert few.confidence == 0.75
    assert beside([1.0], [0.5]).value == 2.0
    many = beside([1.0] * 20, [float(value) for value in range(1, 21)])
    assert many.confidence == 0.95
    assert 1 / 20 < many.low < many.high < 1


def test_the_noise_is_how_far_the_baseline_is_from_itself() -> None:
    series = Series("base", "again")
    series.add({"base": [1.0, 1.0, 1.0], "again": [1.25, 1.25, 1.25], "a": [1.0, 1.0, 1.0]})
    assert series.noise == pytest.approx(0.2)
    assert series.speed("a").noise == series.noise


def test_without_a_second_baseline_the_noise_was_not_measured() -> None:
    series = Series("base", "again")
    series.add({"base": [1.0], "a": [1.0]})
    assert series.noise is None


def test_a_budget_is_shared_out_and_runs_down() -> None:
    clock = Clock()
    budget = Budget(2.0, clock)
    assert budget.left == 120.0
    assert budget.share(4) == 30.0
    clock.now += 100
    assert budget.share(4) == 5.0
    clock.now += 100
    assert budget.left == 0.0
    assert budget.share(0) == 0.0
