import gc
import itertools
import json
import weakref
from collections.abc import Callable, Iterator

import pytest

from infopt.measure import timing
from infopt.measure.timing import AGAIN, MAX_ROUNDS, MIN_ROUNDS, interleave, until_precise


class Clock:
    """Time that passes only while a subject works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def subject(self, name: str, seconds: Iterator[float] | float) -> Callable[[], None]:
        def call() -> None:
            self.log.append(name)
            self.now += seconds if isinstance(seconds, float) else next(seconds)

        return call


def falling(first: float, last: float) -> Iterator[float]:
    """A subject that gets faster with each call, down to ``last``."""
    while True:
        yield first
        first = max(first / 2, last)


def test_medians_and_ratio_come_out_exactly() -> None:
    clock = Clock()
    found = interleave(
        {"old": clock.subject("old", 0.02), "new": clock.subject("new", 0.01)},
        seconds=1.0,
        clock=clock,
        sleep=clock.sleep,
    )
    assert found.summary("old").median == pytest.approx(0.02)
    assert found.summary("new").p99 == pytest.approx(0.01)
    ratio = found.ratio("new")
    assert ratio.value == pytest.approx(2.0)
    assert ratio.verdict() == "better"
    assert found.ratio("old", baseline="new").value == pytest.approx(0.5)


def test_every_round_calls_every_subject_in_changing_order() -> None:
    clock = Clock()
    names = ["a", "b", "c"]
    found = interleave(
        {n: clock.subject(n, 0.03) for n in names},
        seconds=30.0,
        clock=clock,
        sleep=clock.sleep,
        seed=1,
    )
    in_rounds = clock.log[-6 * found.rounds :]
    # A lead-in call and a counted one of each subject: six calls in a round.
    rounds = [tuple(in_rounds[i : i + 6 : 2]) for i in range(0, len(in_rounds), 6)]
    assert all(sorted(r) == names for r in rounds)
    assert len(set(rounds)) == 6
    assert all(in_rounds[i] == in_rounds[i + 1] for i in range(0, len(in_rounds), 2))


@pytest.mark.parametrize(("names", "rests"), [("a", 0.0), ("ab", 0.1)])
def test_subjects_rest_before_each_other(
    names: str, rests: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "REST", 0.1)
    clock, rested = Clock(), list[float]()
    subjects = {name: clock.subject(name, 0.03) for name in names}
    found = interleave(subjects, seconds=1.0, clock=clock, sleep=rested.append)
    assert rested == [rests] * len(names) * (1 + found.rounds)


def test_warming_up_goes_on_while_calls_get_faster() -> None:
    clock = Clock()
    found = interleave(
        {"jit": clock.subject("jit", falling(8.0, 0.01))},
        seconds=200.0,
        clock=clock,
        sleep=clock.sleep,
    )
    assert found.summary("jit").p99 == pytest.approx(0.01)


def test_warming_up_stays_within_its_budget() -> None:
    clock = Clock()
    endless = (100.0 * 0.5**i for i in range(10_000))  # always half of the call before
    interleave({"x": clock.subject("x", endless)}, seconds=1.0, clock=clock, sleep=clock.sleep)
    assert len(clock.log) == 3 + MIN_ROUNDS  # its calls take long enough to need no lead-in


def test_slow_subjects_still_get_their_rounds() -> None:
    clock = Clock()
    found = interleave(
        {"slow": clock.subject("slow", 60.0)}, seconds=1.0, clock=clock, sleep=clock.sleep
    )
    assert found.rounds == MIN_ROUNDS


def test_the_time_budget_ends_the_rounds() -> None:
    clock = Clock()
    found = interleave(
        {"x": clock.subject("x", 0.125)}, seconds=10.0, clock=clock, sleep=clock.sleep
    )
    assert found.rounds == 40  # each round is a lead-in call and a counted one
    assert found.seconds == pytest.approx(10.0)


def test_fast_subjects_are_repeated_within_a_sample() -> None:
    clock = Clock()
    found = interleave(
        {"fast": clock.subject("fast", 1e-6), "slow": clock.subject("slow", 0.5)},
        seconds=5.0,
        clock=clock,
        sleep=clock.sleep,
    )
    assert found.repeats["fast"] == pytest.approx(timing.MIN_SAMPLE / 1e-6, abs=1)
    assert found.repeats["slow"] == 1
    assert found.summary("fast").median == pytest.approx(1e-6)


def test_a_clock_that_does_not_move_ends_all_the_same() -> None:
    found = interleave({"nothing": lambda: None}, seconds=0.0, clock=lambda: 0.0)
    assert MIN_ROUNDS <= found.rounds <= MAX_ROUNDS


def test_precision_ends_the_rounds_early() -> None:
    def run(precision: float | None) -> int:
        clock = Clock()
        subjects = {n: clock.subject(n, 0.01) for n in ("a", "b")}
        return interleave(
            subjects,
            seconds=60.0,
            enough=until_precise(precision) if precision else None,
            clock=clock,
            sleep=clock.sleep,
        ).rounds

    assert run(0.01) == 2 * MIN_ROUNDS
    assert run(None) > 1000


def test_noise_is_what_the_baseline_differs_from_itself() -> None:
    clock = Clock()
    subjects = {"a": clock.subject("a", 0.01), "b": clock.subject("b", 0.01)}
    assert interleave(subjects, seconds=1.0, clock=clock, sleep=clock.sleep).noise is None
    clock.log.clear()
    found = interleave(subjects, seconds=1.0, noise=True, clock=clock, sleep=clock.sleep)
    assert found.noise == pytest.approx(0.0)
    assert clock.log.count("a") > 1.8 * clock.log.count("b")
    assert set(found.samples) == {"a", "b"}


def test_the_result_is_json() -> None:
    clock = Clock()
    found = interleave(
        {"a": clock.subject("a", 0.01)}, seconds=1.0, noise=True, clock=clock, sleep=clock.sleep
    )
    document = json.loads(json.dumps(found.as_dict()))
    assert document["subjects"]["a"]["ratio"]["verdict"] == "same"
    assert document["rounds"] == found.rounds


def test_the_garbage_collector_rests_and_comes_back() -> None:
    seen: list[bool] = []
    clock = Clock()
    work = clock.subject("a", 0.1)

    def call() -> None:
        seen.append(gc.isenabled())
        work()

    def fails() -> None:
        raise RuntimeError("subject")

    assert gc.isenabled()
    interleave({"a": call}, seconds=1.0, clock=clock, sleep=clock.sleep)
    assert not any(seen[-2 * MIN_ROUNDS :])
    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="subject"):
        interleave({"a": fails}, seconds=1.0, clock=clock, sleep=clock.sleep)
    assert gc.isenabled()


def test_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="nothing"):
        interleave({})


def test_the_quickest_part_of_a_sample_counts() -> None:
    clock = Clock()
    bumpy = clock.subject("a", itertools.cycle([0.03, 0.01, 0.05]))
    found = interleave({"a": bumpy}, seconds=1.0, parts=3, clock=clock, sleep=clock.sleep)
    assert found.summary("a").p99 == pytest.approx(0.01)
    assert found.repeats["a"] == 3


def test_the_parts_of_a_sample_are_passes_over_all_subjects() -> None:
    clock = Clock()
    calls: list[str] = []

    def subject(name: str) -> Callable[[], None]:
        inner = clock.subject(name, 0.03)

        def call() -> None:
            calls.append(name)
            inner()

        return call

    names = ("a", "b", "c")
    found = interleave(
        {name: subject(name) for name in names},
        seconds=2.0,
        parts=3,
        rest=0.0,
        clock=clock,
        sleep=clock.sleep,
    )
    timed = calls[-3 * 3 * found.rounds :]
    passes = [timed[at : at + 3] for at in range(0, len(timed), 3)]
    assert all(sorted(each) == list(names) for each in passes)
    assert len({tuple(each) for each in passes}) > 1


def test_subjects_are_renewed_and_the_old_ones_let_go() -> None:
    clock = Clock()
    made: list[weakref.ref[Callable[[], None]]] = []
    alive: list[int] = []

    def make() -> dict[str, Callable[[], None]]:
        gc.collect()
        alive.append(sum(ref() is not None for ref in made))
        subjects = {n: clock.subject(n, 0.03) for n in ("a", "b", AGAIN)}
        made.extend(map(weakref.ref, subjects.values()))
        return subjects

    found = interleave(make(), seconds=10.0, renew=make, clock=clock, sleep=clock.sleep)
    assert len(made) == 3 * -(-found.rounds // timing.RENEWED)
    assert set(alive) == {0}
    assert set(found.samples) == {"a", "b"}
    assert found.noise == pytest.approx(0.0)


def test_samples_may_be_taken_with_another_clock_than_the_budget() -> None:
    clock, timer = Clock(), itertools.count(0.0, 0.5)
    found = interleave(
        {"a": clock.subject("a", 0.01)},
        seconds=1.0,
        clock=clock,
        sleep=clock.sleep,
        timer=lambda: next(timer),
    )
    assert found.summary("a").median == pytest.approx(0.5 / found.repeats["a"])
    assert found.seconds >= 1.0
