"""Interleaved timing: subjects share one run, so what disturbs one disturbs all of them.

Two figures taken one after the other differ by what the machine did in between. Here every
round calls each subject, in shuffled order, and only figures of the same run are compared.

Before each subject everything rests for a moment. The threads of ONNX Runtime go on spinning for
20 to 50 ms after a call, in case that another one follows, and take a core from whoever is timed
then: products of a few milliseconds took two to ten times as long beside them as alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import math
import random
import statistics as stdlib_statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from infopt.measure.statistics import Ratio, Summary, noise_floor, ratio_of_medians, summarize

Clock = Callable[[], float]
Sleep = Callable[[float], None]
Subject = Callable[[], object]
Subjects = Mapping[str, Subject]
Samples = Mapping[str, Sequence[float]]
Enough = Callable[[Samples], bool]
"""Told after each round of all samples so far, by subject: whether these are enough."""

MIN_ROUNDS = 5
MAX_ROUNDS = 10_000
MIN_SAMPLE = 0.02
"""Seconds that one sample should last; faster subjects are called several times for it."""
REST = 0.1
"""Seconds after which the threads of the subject before have come to rest."""
SETTLED = 0.25
"""A call of so many seconds is not preceded by another: cold caches take milliseconds of it."""
_WINDOW = 3
_STILL_WARMING = 0.95
"""A window of calls that takes less than this part of the one before: not warm yet."""
AGAIN = "\0again"
"""Key of the baseline's second series; no subject can be called so."""
RENEWED = 4
"""Rounds after which subjects are made anew, where that was asked for."""


class Stopwatch:
    """Adds up the seconds of those parts of a story that stand in ``with`` blocks."""

    def __init__(self, clock: Clock = time.perf_counter) -> None:
        self.seconds = 0.0
        self._clock = clock

    def __enter__(self) -> None:
        self._start = self._clock()

    def __exit__(self, *_: object) -> None:
        self.seconds += self._clock() - self._start


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What one interleaved run found."""

    samples: Mapping[str, tuple[float, ...]]
    """Seconds for each call, by subject: one figure for each round."""
    repeats: Mapping[str, int]
    """How many calls one figure is the mean of."""
    noise: float | None
    """The noise floor, or ``None`` where it was not measured."""
    seconds: float
    """How long the rounds took, warm-up apart."""
    seed: int

    @property
    def rounds(self) -> int:
        """How many rounds were made."""
        return len(next(iter(self.samples.values())))

    def summary(self, name: str) -> Summary:
        """Percentiles of one subject."""
        return summarize(self.samples[name])

    def ratio(self, name: str, baseline: str | None = None) -> Ratio:
        """How many times as fast as ``baseline`` (the first subject) ``name`` is."""
        first = baseline if baseline is not None else next(iter(self.samples))
        return ratio_of_medians(
            self.samples[first], self.samples[name], noise=self.noise or 0.0, seed=self.seed
        )

    def as_dict(self) -> dict[str, object]:
        """Return summaries, ratios to the first subject and conditions, ready for JSON."""
        return {
            "rounds": self.rounds,
            "seconds": self.seconds,
            "noise": self.noise,
            "subjects": {
                name: {
                    **self.summary(name).as_dict(),
                    "repeats": self.repeats[name],
                    "ratio": self.ratio(name).as_dict(),
                }
                for name in self.samples
            },
        }


def interleave(
    subjects: Subjects,
    *,
    seconds: float = 10.0,
    enough: Enough | None = None,
    noise: bool = False,
    renew: Callable[[], Subjects] | None = None,
    parts: int = 1,
    rest: float | None = None,
    seed: int = 0,
    timer: Clock | None = None,
    clock: Clock = time.perf_counter,
    sleep: Sleep = time.sleep,
) -> Measurement:
    """Time ``subjects`` in one run.

    Each is warmed up until its calls no longer get faster. Then come rounds. A sample is
    preceded by a rest of :data:`REST` seconds, where there are several subjects, and by one call
    that does not count, so that a subject is measured with its own data in the caches; one that
    takes :data:`SETTLED` seconds needs no such call, and one in ``parts`` has none.

    Args:
        subjects: Callables by name; the first is the baseline. Each is called with the same
            inputs every time, which the caller has bound. One called :data:`AGAIN` is the
            baseline, made a second time.
        seconds: Time budget of the rounds; :data:`MIN_ROUNDS` are made in any case. Warming up
            takes at most a quarter of it on top, and three calls of each subject in any case.
        enough: Stop early once this says so.
        noise: Measure the baseline a second time, as a subject of its own, for the noise floor.
        renew: Makes the same subjects anew, every :data:`RENEWED` rounds: one session of a model
            differs from the next by a percent or so, by where its memory happens to lie.
        parts: How often all subjects are called, in turn and without calls that do not count, for
            one sample of each: the quickest of so many. Other work on the machine only ever adds to
            a time, it does not add to all parts alike, and it adds to subjects alike that are
            called within a moment.
        rest: Seconds to rest instead of :data:`REST`.
        seed: Seed of the order within rounds and of the intervals.
        timer: What samples are taken with, instead of ``clock``.
        clock: Returns seconds; a test passes its own.
        sleep: Lets seconds pass; likewise.

    Raises:
        ValueError: There are no subjects.
    """
    if not subjects:
        raise ValueError("nothing to measure")
    baseline, timer = next(iter(subjects)), timer or clock
    timed = {**subjects, AGAIN: subjects[baseline]} if noise else dict(subjects)
    first, share = dict(subjects), seconds / 4 / len(subjects)
    del subjects  # where they are renewed, the first ones are to go
    pause = (REST if rest is None else rest) if len(timed) > 1 else 0.0
    warm = {}
    while first:
        name = next(iter(first))
        sleep(pause)
        warm[name] = _warm_up(first.pop(name), share, clock)
    warm |= {AGAIN: warm[baseline]} if noise else {}
    repeats = {name: math.ceil(MIN_SAMPLE / parts / max(each, 1e-9)) for name, each in warm.items()}
    lead = {name: int(parts == 1 and each < SETTLED) for name, each in warm.items()}
    samples: dict[str, list[float]] = {name: [] for name in timed}
    order = random.Random(seed)
    start = clock()
    with _no_garbage_collection():
        for count in range(1, MAX_ROUNDS + 1):
            if renew is not None and count > 1 and count % RENEWED == 1:
                timed = _renewed(renew, timed, clock)
            quickest = dict.fromkeys(timed, math.inf)
            for _ in range(parts):
                for name in order.sample(list(timed), len(timed)):
                    sleep(pause)
                    taken = _sample(timed[name], repeats[name], timer, lead[name])
                    quickest[name] = min(quickest[name], taken)
            for name, taken in quickest.items():
                samples[name].append(taken)
            if count >= MIN_ROUNDS and clock() - start >= seconds:
                break
            if enough is not None and enough(samples):
                break
    spent = clock() - start
    again = samples.pop(AGAIN, None)
    return Measurement(
        samples={name: tuple(series) for name, series in samples.items()},
        repeats={name: parts * repeats[name] for name in samples},
        noise=None if again is None else noise_floor(samples[baseline], again),
        seconds=spent,
        seed=seed,
    )


def _renewed(
    renew: Callable[[], Subjects], timed: dict[str, Subject], clock: Clock
) -> dict[str, Subject]:
    """New subjects, warm, in the place of ``timed``, which are let go first."""
    timed.clear()
    fresh = renew()
    for call in fresh.values():
        _warm_up(call, 0.0, clock)
    return dict(fresh)


def _warm_up(call: Subject, budget: float, clock: Clock) -> float:
    """Call until it no longer gets faster; return the median of the last calls, in seconds."""
    start = clock()
    before = math.inf
    while True:
        median = stdlib_statistics.median(_sample(call, 1, clock, lead=0) for _ in range(_WINDOW))
        if median >= before * _STILL_WARMING or clock() - start >= budget:
            return median
        before = median


def _sample(call: Subject, repeats: int, clock: Clock, lead: int = 1) -> float:
    """Seconds for one call, as the mean of ``repeats``."""
    for _ in range(lead):
        call()
    start = clock()
    for _ in range(repeats):
        call()
    return (clock() - start) / repeats


def until_precise(precision: float, *, seed: int = 0) -> Enough:
    """Enough is when the interval of each ratio reaches no farther than this from its ratio.

    That is looked at after 10 rounds, 20, 40 and so on.
    """
    next_look = 2 * MIN_ROUNDS

    def enough(samples: Samples) -> bool:
        nonlocal next_look
        baseline, *others = (series for name, series in samples.items() if name != AGAIN)
        if len(baseline) < next_look or not others:
            return False
        next_look *= 2
        ratios = [ratio_of_medians(baseline, it, resamples=200, seed=seed) for it in others]
        return max(max(r.high - r.value, r.value - r.low) for r in ratios) <= precision

    return enough


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep Python's collector from stopping one subject for what another left behind."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
