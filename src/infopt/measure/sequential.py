"""Decides while it is being measured: at looks that were fixed before, with a bounded error.

Whoever looks at an interval after every round, and stops once it says what he waits for, is wrong
far more often than the interval admits. Here the looks are few and their numbers of rounds are
fixed, and each has an equal part of the error that is allowed in all. By the union bound no more
than that goes wrong, however the looks hang together; it is the simplest case of spending an error
over looks (Pocock, 1977; Lan and DeMets, 1983), and needs no distribution.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from infopt.measure.statistics import Ratio, Verdict, median_of_ratios
from infopt.measure.timing import AGAIN

LOOKS = (10, 15, 22, 33, 50, 75, 112, 168)
"""Numbers of rounds after which a decision is tried."""
ERROR = 0.01
"""Probability, on either side, that a decision is wrong where the truth is exactly at the limit;
farther away from it there are far fewer."""
CONFIDENCE = 0.99
"""Of the interval of what is remembered."""


@dataclasses.dataclass(frozen=True)
class Change:
    """How much longer a call takes than it did, both as multiples of the same reference."""

    value: float
    """0.05 where it takes 5 % longer."""
    low: float
    high: float

    def verdict(self, limit: float) -> Verdict:
        """What can be said of it, where ``limit`` more is allowed.

        ``same`` says that it stays within the limit; ``better`` that it is quicker by as much.
        """
        if self.low > limit:
            return "worse"
        if 1 + self.high < 1 / (1 + limit):
            return "better"
        return "same" if self.high <= limit else "inconclusive"


def change(then: Ratio, now: Ratio) -> Change:
    """How much slower the speed ``now`` is than the speed ``then``.

    Both are found independently of each other, so that their errors do not add up but their squares
    do: the interval follows from the ends of theirs (Zou and Donner, Statistics in Medicine 27,
    2008), in logarithms; exact for normal errors, an approximation for others. The noise of each
    counts in full: where a baseline differs from itself by more than chance explains, no smaller
    difference is one.
    """
    value, noise = then.value / now.value, (1 + then.noise) * (1 + now.noise)
    low = _hypot(then.value / then.low if then.low else math.inf, now.high / now.value)
    high = _hypot(then.high / then.value, now.value / now.low if now.low else math.inf)
    return Change(value - 1, value / (low * noise) - 1, value * high * noise - 1)


def _hypot(one: float, other: float) -> float:
    """The factor whose logarithm is the root of the sum of the squares of two factors'."""
    return math.exp(math.hypot(math.log(one), math.log(other)))


class Watch:
    """Watches rounds of a baseline, the same again, and one subject, until enough is known."""

    def __init__(
        self,
        decided: Callable[[Ratio], bool],
        *,
        looks: tuple[int, ...] = LOOKS,
        error: float = ERROR,
    ) -> None:
        """Prepare the looks.

        Args:
            decided: Whether a speed is known well enough.
            looks: Numbers of rounds at which to ask.
            error: Probability that any of the intervals lies to one side of the truth.
        """
        self._decided = decided
        self._looks = looks
        # One more part is for a last look, when time is up between two.
        self._confidence = 1 - 2 * error / (len(looks) + 1)

    def __call__(self, samples: Mapping[str, Sequence[float]]) -> bool:
        """Whether to stop: see :data:`infopt.measure.timing.Enough`."""
        count = len(next(iter(samples.values())))
        return count in self._looks and self._decided(self.speed(samples))

    def speed(self, samples: Mapping[str, Sequence[float]]) -> Ratio:
        """The speed of the subject as a multiple of the baseline's, as far as it is known.

        A round in which the baseline was taken twice counts the (geometric) mean of both. Its noise
        is how far one lies outside of the interval of the one over the other: what lies inside is
        chance, which the interval of the speed has already.
        """
        baseline, subject = (series for name, series in samples.items() if name != AGAIN)
        noise = 0.0
        if AGAIN in samples:
            same = median_of_ratios(baseline, samples[AGAIN], confidence=self._confidence)
            noise = max(0.0, same.low - 1, 1 / same.high - 1)
            baseline = np.sqrt(np.multiply(baseline, samples[AGAIN])).tolist()
        return median_of_ratios(baseline, subject, noise=noise, confidence=self._confidence)


def until_decided(
    then: Ratio, limit: float, looks: tuple[int, ...] = LOOKS, error: float = ERROR
) -> Watch:
    """Watches until it is known whether a subject is slower by more than ``limit``."""

    def decided(now: Ratio) -> bool:
        return change(then, now).verdict(limit) != "inconclusive"

    return Watch(decided, looks=looks, error=error)


def until_known(precision: float, looks: tuple[int, ...] = LOOKS) -> Watch:
    """Watches until a speed is known to ``precision`` of itself, as one to remember has to be."""

    def decided(now: Ratio) -> bool:
        return max(now.high / now.value, now.value / max(now.low, 1e-9)) <= 1 + precision

    return Watch(decided, looks=looks, error=(1 - CONFIDENCE) / 2)
