from __future__ import annotations

import math
import random

import pytest

from infopt.measure.sequential import LOOKS, Watch, change, until_decided, until_known
from infopt.measure.statistics import Ratio, Verdict, median_of_ratios
from infopt.measure.timing import AGAIN, MAX_ROUNDS

THEN = Ratio(1.2, 1.2, 1.2, 0.99)


def speed(value: float, spread: float = 0.0, noise: float = 0.0) -> Ratio:
    return Ratio(value, value * (1 - spread), value * (1 + spread), 0.99, noise)


@pytest.mark.parametrize(
    ("now", "limit", "verdict"),
    [
        (speed(1.2, 0.01), 0.05, "same"),
        (speed(1.08, 0.01), 0.05, "worse"),
        (speed(1.08, 0.07), 0.05, "inconclusive"),
        (speed(1.15, 0.01), 0.05, "inconclusive"),  # 4.3 %, and up to 5.4 %
        (speed(1.15, 0.005), 0.05, "same"),
        (speed(1.3, 0.01), 0.05, "better"),
        (speed(1.3, 0.2), 0.05, "inconclusive"),
        (speed(1.08, 0.01, noise=0.06), 0.05, "inconclusive"),  # the baseline differs by as much
        (speed(1.2, 0.01, noise=0.06), 0.05, "inconclusive"),
        (Ratio(1.2, 0.0, math.inf, 0.99), 0.05, "inconclusive"),
    ],
)
def test_verdicts_on_a_change(now: Ratio, limit: float, verdict: Verdict) -> None:
    assert change(THEN, now).verdict(limit) == verdict


def test_a_change_is_more_time() -> None:
    found = change(speed(1.1), speed(1.0))
    assert (found.value, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_both_intervals_count() -> None:
    exactly, roughly = Ratio(1.0, 1.0, 1.0, 0.99), Ratio(1.0, 0.98, 1.01, 0.99)
    found = change(exactly, roughly)
    assert found.low == pytest.approx(1 / 1.01 - 1)
    assert found.high == pytest.approx(1 / 0.98 - 1)
    found = change(roughly, exactly)
    assert found.low == pytest.approx(0.98 - 1)
    assert found.high == pytest.approx(1.01 - 1)
    found = change(Ratio(1.0, 1 / 1.03, 1.03, 0.99), Ratio(2.0, 2 / 1.04, 2 * 1.04, 0.99))
    factor = math.exp(math.hypot(math.log(1.03), math.log(1.04)))
    assert (found.low, found.high) == pytest.approx((0.5 / factor - 1, 0.5 * factor - 1))


def test_without_an_end_nothing_is_known() -> None:
    nothing = Ratio(1.0, 0.0, math.inf, 0.99)
    for found in (change(nothing, THEN), change(THEN, nothing)):
        assert (found.low, found.high) == (-1.0, math.inf)


@pytest.mark.slow
def test_the_interval_of_a_change_holds_as_often_as_those_it_is_made_of() -> None:
    missed = 0
    for seed in range(2000):
        rng = random.Random(seed)
        sides = []
        for count in (60, 30):
            taken = [[rng.lognormvariate(0, 0.05) for _ in range(count)] for _ in range(2)]
            sides.append(median_of_ratios(*taken, confidence=0.98))
        found = change(*sides)
        missed += not found.low <= 0.0 <= found.high
    assert missed <= 0.02 * 2000


def run(watch: Watch, slowdown: float, scatter: float, seed: int) -> tuple[Ratio, int]:
    """Rounds of a subject that is slower by ``slowdown`` than one that is as fast as THEN."""
    rng = random.Random(seed)
    taken: dict[str, list[float]] = {"reference": [], "subject": [], AGAIN: []}
    for _ in range(LOOKS[-1]):
        shared = rng.lognormvariate(0, 0.3)  # the machine is slow for all alike
        for name, each in (("reference", 1.2), ("subject", 1 + slowdown), (AGAIN, 1.2)):
            taken[name].append(each * shared * rng.lognormvariate(0, scatter))
        if watch(taken):
            break
    return watch.speed(taken), len(taken["subject"])


def test_looks_are_few_and_fixed() -> None:
    asked: list[int] = []

    def decided(now: Ratio) -> bool:
        asked.append(1)
        return False

    _, count = run(Watch(decided), 0.0, 0.01, seed=0)
    assert count == LOOKS[-1]
    assert len(asked) == len(LOOKS)
    assert LOOKS[-1] < MAX_ROUNDS


def test_the_first_look_can_decide() -> None:
    for slowdown, verdict in ((0.0, "same"), (0.2, "worse"), (-0.2, "better")):
        now, count = run(until_decided(THEN, 0.05), slowdown, 0.005, seed=1)
        assert change(THEN, now).verdict(0.05) == verdict
        assert count == LOOKS[0]


@pytest.mark.slow
def test_at_the_limit_no_more_goes_wrong_than_was_allowed() -> None:
    """The error is bounded however often one looks: here at nine times, until one decides."""
    wrong = 0
    for seed in range(2000):
        now, _ = run(until_decided(THEN, 0.05), 0.05, 0.02, seed)
        wrong += change(THEN, now).verdict(0.05) == "worse"
    assert wrong <= 0.01 * 2000


def test_a_real_slowdown_is_seen_and_none_is_not() -> None:
    verdicts = []
    for seed in range(40):
        for slowdown in (0.0, 0.1):
            now, _ = run(until_decided(THEN, 0.05), slowdown, 0.015, seed)
            verdicts.append((slowdown, change(THEN, now).verdict(0.05)))
    assert set(verdicts) == {(0.0, "same"), (0.1, "worse")}


def test_what_is_remembered_is_known_closely() -> None:
    now, _ = run(until_known(0.02), 0.0, 0.02, seed=3)
    assert now.high / now.value <= 1.02
    assert now.value / now.low <= 1.02


def _rounds(bias: float, count: int = 60) -> dict[str, list[float]]:
    """A subject as fast as the baseline, whose second session is slower by ``bias``."""
    rng = random.Random(5)
    each = {"reference": 1.0, "subject": 1.0, AGAIN: 1.0 + bias}
    return {
        name: [middle * rng.lognormvariate(0, 0.05) for _ in range(count)]
        for name, middle in each.items()
    }


def test_what_chance_explains_is_no_noise_and_a_bias_is() -> None:
    watch = Watch(lambda now: True)
    assert watch.speed(_rounds(0.0)).noise == 0.0
    assert 0.1 < watch.speed(_rounds(0.2)).noise < 0.2
    assert watch.speed(_rounds(-0.2)).noise == pytest.approx(0.22, abs=0.06)


def test_a_baseline_that_was_taken_twice_counts_twice() -> None:
    taken = _rounds(0.0)
    both = Watch(lambda now: True).speed(taken)
    once = Watch(lambda now: True).speed({n: taken[n] for n in ("reference", "subject")})
    assert both.high / both.low < once.high / once.low
    assert both.value == pytest.approx(1.0, abs=0.02)
    shifted = Watch(lambda now: True).speed(_rounds(0.1))
    assert shifted.value == pytest.approx(math.sqrt(1.1), abs=0.02)
