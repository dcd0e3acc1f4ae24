"""What a series of timings says: percentiles, a ratio with its interval, a verdict in words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

Verdict = Literal["better", "same", "worse", "inconclusive"]

SAME_WITHIN = 0.02
"""Two subjects whose whole interval lies within this distance of one are the same."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """Percentiles of one subject's samples, in seconds for each call."""

    samples: int
    median: float
    p90: float
    p99: float

    def as_dict(self) -> dict[str, float]:
        """Return the fields, ready for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Ratio:
    """How many times as fast as a baseline a subject is, with its confidence interval."""

    value: float
    """Median time of the baseline over that of the subject: 2.0 is twice as fast."""
    low: float
    high: float
    confidence: float
    noise: float = 0.0
    """How far from one the same ratio came out when the baseline was measured against itself; of
    what is watched (``sequential``), as far as that is more than chance."""

    def verdict(self, same_within: float = SAME_WITHIN) -> Verdict:
        """What the interval, widened by the noise, allows to be said.

        ``same`` is a finding (the whole interval is close to one); ``inconclusive`` is the lack
        of one (the interval holds both one and a difference worth naming).
        """
        low, high = self.low / (1 + self.noise), self.high * (1 + self.noise)
        if 1 / (1 + same_within) <= low and high <= 1 + same_within:
            return "same"
        if low > 1:
            return "better"
        if high < 1:
            return "worse"
        return "inconclusive"

    def as_dict(self) -> dict[str, float | str]:
        """Return the fields and the verdict, ready for JSON."""
        return {**dataclasses.asdict(self), "verdict": self.verdict()}


def summarize(seconds: Sequence[float]) -> Summary:
    """Median, p90 and p99 of ``seconds``, which must not be empty."""
    median, p90, p99 = (float(value) for value in np.percentile(seconds, (50, 90, 99)))
    return Summary(len(seconds), median, p90, p99)


def ratio_of_medians(
    baseline: Sequence[float],
    subject: Sequence[float],
    *,
    noise: float = 0.0,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Ratio:
    """The speed of ``subject`` as a multiple of that of ``baseline``.

    The interval is a percentile bootstrap over whole rounds: a round that was slow for both,
    because the machine was busy, stays paired and moves the ratio little.

    Args:
        baseline: Seconds for each call, one figure for each round.
        subject: The same rounds of the other subject.
        noise: Noise floor to carry in the result; see :func:`noise_floor`.
        confidence: Probability that the interval is to hold.
        resamples: How many resamples the interval is taken from.
        seed: Seed of the resampling; the same samples and seed give the same interval.

    Raises:
        ValueError: The series are empty or differ in length.
    """
    a, b = np.asarray(baseline, np.float64), np.asarray(subject, np.float64)
    if a.shape != b.shape or a.size == 0:
        raise ValueError(f"rounds must be paired, got {a.size} and {b.size}")
    rng = np.random.default_rng(seed)
    ratios = np.empty(resamples)
    for index in range(resamples):  # one at a time: rounds x resamples would not fit in a cache
        rounds = rng.integers(0, a.size, a.size)
        ratios[index] = np.median(a[rounds]) / np.median(b[rounds])
    tail = (1 - confidence) / 2
    low, high = (float(value) for value in np.quantile(ratios, (tail, 1 - tail)))
    return Ratio(float(np.median(a) / np.median(b)), low, high, confidence, noise)


def median_of_ratios(
    baseline: Sequence[float],
    subject: Sequence[float],
    *,
    noise: float = 0.0,
    confidence: float = 0.95,
) -> Ratio:
    """The speed of ``subject`` as a multiple of that of ``baseline``: the median over rounds.

    Its interval lies between two of the ratios, as many from either end as the binomial
    distribution allows (Thompson, 1936). That holds for any distribution of the ratios, for few
    rounds and for any confidence; a bootstrap of ten rounds has no tails to speak of, and what the
    bootstrap of a median comes to with more is these same ratios (Efron, 1979).

    Args:
        baseline: Seconds for each call, one figure for each round.
        subject: The same rounds of the other subject.
        noise: Noise floor to carry in the result.
        confidence: Probability that the interval is to hold, at least. Where there are too few
            rounds for it, the interval has no ends: 0 and infinity.

    Raises:
        ValueError: The series are empty or differ in length.
    """
    if len(baseline) != len(subject) or not baseline:
        raise ValueError(f"rounds must be paired, got {len(baseline)} and {len(subject)}")
    ratios = np.sort(np.asarray(baseline, np.float64) / np.asarray(subject, np.float64))
    count, outside = len(ratios), 0
    below = 0.0
    while True:  # how many may lie outside at either end
        below += math.comb(count, outside) / 2**count
        if below > (1 - confidence) / 2:
            break
        outside += 1
    if not outside:
        return Ratio(float(np.median(ratios)), 0.0, math.inf, confidence, noise)
    low, high = float(ratios[outside - 1]), float(ratios[count - outside])
    return Ratio(float(np.median(ratios)), low, high, confidence, noise)


def noise_floor(once: Sequence[float], again: Sequence[float]) -> float:
    """How far from one the ratio of a subject to itself came out (A/A), at least 0."""
    return abs(ratio_of_medians(once, again, resamples=1).value - 1)
