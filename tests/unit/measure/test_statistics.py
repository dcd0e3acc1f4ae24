from collections.abc import Callable

import numpy as np
import pytest

from infopt.measure.statistics import (
    Ratio,
    median_of_ratios,
    noise_floor,
    ratio_of_medians,
    summarize,
)


def test_percentiles() -> None:
    summary = summarize([float(value) for value in range(1, 101)])
    assert (summary.samples, summary.median) == (100, 50.5)
    assert summary.p90 == pytest.approx(90.1)
    assert summary.p99 == pytest.approx(99.01)
    assert summary.as_dict()["p90"] == summary.p90


def test_a_subject_that_takes_half_the_time_is_twice_as_fast() -> None:
    ratio = ratio_of_medians([2.0] * 20, [1.0] * 20)
    assert (ratio.value, ratio.low, ratio.high) == (2.0, 2.0, 2.0)
    assert ratio.verdict() == "better"


def test_rounds_stay_paired() -> None:
    # Each round is slow or fast for both alike; only pairing can see the constant ratio.
    busy = np.random.default_rng(0).uniform(1, 10, 101)
    ratio = ratio_of_medians(list(busy), list(busy * 1.25))
    assert ratio.value == pytest.approx(0.8)
    assert ratio.high - ratio.low < 1e-9
    assert ratio.verdict() == "worse"


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(200):
        a, b = rng.normal(1.1, 0.1, 60), rng.normal(1.0, 0.1, 60)
        ratio = ratio_of_medians(list(a), list(b), resamples=300, seed=seed)
        held += ratio.low <= 1.1 <= ratio.high
    assert 178 <= held <= 200


def test_the_same_seed_gives_the_same_interval() -> None:
    rng = np.random.default_rng(2)
    a, b = list(rng.normal(1, 0.1, 30)), list(rng.normal(1, 0.1, 30))
    assert ratio_of_medians(a, b, seed=5) == ratio_of_medians(a, b, seed=5)
    assert ratio_of_medians(a, b, seed=5) != ratio_of_medians(a, b, seed=6)


@pytest.mark.parametrize(
    ("low", "high", "noise", "verdict"),
    [
        (1.05, 1.20, 0.0, "better"),
        (0.80, 0.95, 0.0, "worse"),
        (0.99, 1.01, 0.0, "same"),
        (0.95, 1.08, 0.0, "inconclusive"),
        (1.001, 1.01, 0.0, "same"),  # certainly faster, and by nothing worth naming
        (1.01, 1.05, 0.0, "better"),
        (1.01, 1.05, 0.03, "inconclusive"),  # no farther from one than noise alone goes
        (0.99, 1.01, 0.03, "inconclusive"),
        (1.10, 1.20, 0.03, "better"),
    ],
)
def test_verdicts(low: float, high: float, noise: float, verdict: str) -> None:
    ratio = Ratio((low + high) / 2, low, high, 0.95, noise)
    assert ratio.verdict() == verdict
    assert ratio.as_dict()["verdict"] == verdict


def test_how_close_is_the_same_can_be_said() -> None:
    ratio = Ratio(1.0, 0.96, 1.04, 0.95)
    assert ratio.verdict() == "inconclusive"
    assert ratio.verdict(same_within=0.05) == "same"


def test_noise_floor_is_a_distance() -> None:
    assert noise_floor([1.0, 1.0], [1.25, 1.25]) == pytest.approx(0.2)
    assert noise_floor([1.25, 1.25], [1.0, 1.0]) == pytest.approx(0.25)


@pytest.mark.parametrize("estimate", [ratio_of_medians, median_of_ratios])
@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0])])
def test_rounds_that_are_not_paired_are_refused(
    estimate: Callable[[list[float], list[float]], Ratio], a: list[float], b: list[float]
) -> None:
    with pytest.raises(ValueError, match="paired"):
        estimate(a, b)


def test_the_median_of_ratios_and_its_interval_are_ratios_of_rounds() -> None:
    baseline = [float(n) for n in range(1, 12)]
    ratio = median_of_ratios(baseline, [1.0] * 11, confidence=0.95)
    # Binomial, 11 rounds: at most one below or above has 0.6 %, at most two 3.3 %.
    assert (ratio.low, ratio.value, ratio.high) == (2.0, 6.0, 10.0)


def test_too_few_rounds_have_no_interval() -> None:
    ratio = median_of_ratios([2.0, 2.0, 2.0], [1.0, 1.0, 1.0], confidence=0.99)
    assert (ratio.low, ratio.value, ratio.high) == (0.0, 2.0, np.inf)
    assert ratio.verdict() == "inconclusive"
    assert median_of_ratios([2.0] * 10, [1.0] * 10, confidence=0.99).verdict() == "better"


def test_the_interval_of_the_median_holds_as_often_as_it_says_whatever_the_distribution() -> None:
    rng = np.random.default_rng(3)
    held = 0
    truth = _heavy_median()
    for _ in range(2000):
        ratios = rng.lognormal(0, 1, 10) * rng.choice([1, 1, 1, 20], 10)  # heavy to one side
        found = median_of_ratios(list(ratios), [1.0] * 10, confidence=0.9)
        held += found.low <= truth <= found.high
    assert held >= 0.9 * 2000


def _heavy_median() -> float:
    rng = np.random.default_rng(4)
    return float(np.median(rng.lognormal(0, 1, 10**6) * rng.choice([1, 1, 1, 20], 10**6)))
