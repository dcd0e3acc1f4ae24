"""Who is timed when: passes over all workers in shuffled order, until the time is spent.

Everything here is arithmetic on what a worker answers, so that it can be tested without one.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infopt.measure.statistics import Ratio, median_of_ratios
from infopt.measure.timing import MIN_SAMPLE, SETTLED

LEAST_PASSES = 3
MOST_PASSES = 100

Timer = Callable[[int, int], float]
"""(calls that do not count, calls that do) → seconds for one of the latter."""


@dataclasses.dataclass(frozen=True)
class Burst:
    """How a worker is called in each pass."""

    lead: int
    """Calls that do not count: they bring the worker's data back into the caches."""
    count: int

    @classmethod
    def for_call(cls, seconds: float) -> Burst:
        """By how long a call takes, as ``infopt.measure.timing`` does it."""
        return cls(int(seconds < SETTLED), math.ceil(MIN_SAMPLE / max(seconds, 1e-9)))


def passes(
    timers: Mapping[str, Timer],
    seconds: float,
    *,
    seed: int = 0,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[dict[str, list[float]], dict[str, Exception]]:
    """Time all workers in one run.

    Args:
        timers: By name, of workers that have run these inputs before. One that raises is left out
            from there on.
        seconds: For all passes; each worker has :data:`LEAST_PASSES` samples in any case.
        seed: Of the order.
        clock: Returns seconds; a test passes its own.

    Returns:
        Seconds for a call, one figure for each pass, of those that lasted; and what the others
        raised.
    """
    raised: dict[str, Exception] = {}
    bursts: dict[str, Burst] = {}
    samples: dict[str, list[float]] = {}
    order = random.Random(seed)

    def attempt(name: str, lead: int, count: int) -> float | None:
        try:
            return timers[name](lead, count)
        except Exception as error:
            raised[name] = error
            return None

    start = clock()
    for name in order.sample(list(timers), len(timers)):
        found = attempt(name, 0, 1)
        if found is not None:
            bursts[name] = Burst.for_call(found)
            if bursts[name].lead:  # else the call was a sample; now it was the lead of one
                found = attempt(name, 0, bursts[name].count)
        if found is not None:
            samples[name] = [found]
    for _ in range(1, MOST_PASSES):  # the first calls were a pass
        began = clock()
        for name in order.sample(list(samples), len(samples)):
            found = attempt(name, bursts[name].lead, bursts[name].count)
            if found is None:
                del samples[name]
            else:
                samples[name].append(found)
        least = min(map(len, samples.values()), default=LEAST_PASSES)
        now = clock()
        if least >= LEAST_PASSES and now - start + (now - began) > seconds:
            break
    return samples, raised


def beside(base: Sequence[float], own: Sequence[float], noise: float = 0.0) -> Ratio:
    """Median over passes of the one over the other.

    The interval is one of 95 %; of fewer than six passes, which have none, it is all of them.
    """
    all_of_them = 1 - 2.0 ** (1 - len(own))
    return median_of_ratios(base, own, noise=noise, confidence=min(0.95, all_of_them))


@dataclasses.dataclass
class Series:
    """All that was timed of a cell, in rounds: each has processes of its own.

    Speeds are ratios within a pass: how fast the machine is changes from one second to the next,
    for all of them at once.
    """

    baseline: str
    again: str
    """A second worker of the baseline, for the noise."""
    rounds: list[tuple[int, Mapping[str, list[float]]]] = dataclasses.field(default_factory=list)
    """The number of the group, and its figures."""

    def add(self, samples: Mapping[str, list[float]], group: int = 0) -> None:
        """Take in the figures of a round, in which the baseline is.

        Args:
            samples: By worker, one for each pass.
            group: Workers that are loaded together make up a group; it may have many rounds.
        """
        self.rounds.append((group, samples))

    def has(self, name: str) -> bool:
        """Whether a worker was timed to the end."""
        return any(name in samples for _, samples in self.rounds)

    def seconds(self, name: str) -> list[float]:
        """Of each pass of all rounds that a worker was in."""
        return [value for _, samples in self.rounds for value in samples.get(name, ())]

    def _base(self, name: str) -> list[float]:
        """The baseline's, of the same passes."""
        rounds = [samples for _, samples in self.rounds if name in samples]
        return [value for samples in rounds for value in samples[self.baseline]]

    @property
    def noise(self) -> float | None:
        """How far from one the baseline's speed beside itself came out; ``None``: not measured."""
        if not self.has(self.again):
            return None
        return abs(beside(self._base(self.again), self.seconds(self.again)).value - 1)

    def speed(self, name: str) -> Ratio:
        """How many times as fast as the baseline a worker is."""
        return beside(self._base(name), self.seconds(name), self.noise or 0.0)

    def passes(self, name: str) -> dict[str, Any]:
        """A worker's group, and its speed in each pass of each of the group's rounds, for JSON.

        With these any two workers of a group can be set beside each other as they were timed. A
        round that it was not in is empty.
        """
        group = next(group for group, samples in self.rounds if name in samples)
        rounds = []
        for number, samples in self.rounds:
            if number == group:
                base = samples[self.baseline] if name in samples else ()
                pairs = zip(base, samples.get(name, ()), strict=True)
                rounds.append([round(theirs / own, 4) for theirs, own in pairs])
        return {"group": group, "passes": rounds}


@dataclasses.dataclass
class Budget:
    """Time until a deadline, shared out over what is left to do."""

    minutes: float
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._end = self.clock() + 60 * self.minutes

    @property
    def left(self) -> float:
        """Seconds; never below 0."""
        return max(0.0, self._end - self.clock())

    def share(self, parts: int) -> float:
        """Seconds for one of so many equal parts."""
        return self.left / max(1, parts)
