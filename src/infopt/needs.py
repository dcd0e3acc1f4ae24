"""What subjects of a benchmark need besides the time of a call: disk, memory, money."""

from __future__ import annotations

import dataclasses
import functools
import statistics
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from infopt import answering, provenance
from infopt import engine as engines
from infopt.backends.base import RunOptions, Session
from infopt.errors import UsageError
from infopt.evidence.equivalence import Sample
from infopt.measure.fresh import FirstAnswers, first_answers
from infopt.measure.throughput import throughput
from infopt.measure.timing import Subject
from infopt.subjects import Needs, size_on_disk

THROUGHPUT_SECONDS = 2.0
STARTS = 5


@dataclasses.dataclass(frozen=True)
class Needing:
    """What is to be found out, and on what."""

    sample: Sample
    options: RunOptions
    room: Path
    concurrency: int | None
    """Requests at a time; ``None`` leaves throughput out, unless there is a price."""
    price_per_hour: float | None
    cold_starts: bool

    def of(self, subjects: Sequence[object], sessions: Mapping[str, Session]) -> tuple[Needs, ...]:
        """What each of ``subjects`` needs, whose sessions are ``sessions`` in the same order.

        Raises:
            UsageError: The price is none, or a subject has no place from which to start it.
        """
        if self.price_per_hour is not None and not 0 <= self.price_per_hour < 1e9:
            raise UsageError(f"{self.price_per_hour} is no price of an hour")
        starts = self._starts(subjects) if self.cold_starts else None
        found = []
        for number, (subject, session) in enumerate(zip(subjects, sessions.values(), strict=True)):
            needs = self._rate(Needs(size_on_disk(subject), _built(subject)), session)
            if starts is not None:
                needs = dataclasses.replace(
                    needs,
                    cold_start=statistics.median(starts.seconds[str(number)]),
                    peak_rss=starts.peak_rss[str(number)],
                )
            found.append(needs)
        return tuple(found)

    def _rate(self, needs: Needs, session: Session) -> Needs:
        at_once = self.concurrency
        if at_once is None and self.price_per_hour is not None:
            at_once = int(provenance.hardware()["cores"])
        if at_once is None:
            return needs
        call = functools.partial(session, self.sample.inputs)
        rate = throughput(
            call if session.parallel else _in_turn(call), at_once, seconds=THROUGHPUT_SECONDS
        )
        price = self.price_per_hour
        cost = None if price is None else rate.cost_per_million(price)
        return dataclasses.replace(needs, throughput=rate, cost=cost)

    def _starts(self, subjects: Sequence[object]) -> FirstAnswers:
        if not answering.can_keep(self.sample.inputs):
            raise UsageError("cold starts need inputs that are no strings; leave them out")
        inputs = self.room / "inputs.npz"
        np.savez(inputs, allow_pickle=False, **dict(self.sample.inputs))
        commands = {}
        for number, subject in enumerate(subjects):
            if not isinstance(subject, (str, Path)):
                raise UsageError("cold starts need engines and models in files")
            commands[str(number)] = answering.command(subject, inputs, self.options.threads)
        return first_answers(
            commands, seconds=0.0, rounds=STARTS, enough=lambda taken: len(taken["0"]) == STARTS
        )


def _in_turn(call: Subject) -> Subject:
    """Calls wait for each other, as they do wherever such a session serves several callers."""
    lock = threading.Lock()

    def alone() -> object:
        with lock:
            return call()

    return alone


def _built(subject: object) -> float | None:
    if not isinstance(subject, (str, Path)) or not engines.is_engine(Path(subject)):
        return None
    built = engines.open_engine(Path(subject), verify=False).manifest.evidence.get("built")
    seconds = built.get("seconds") if isinstance(built, Mapping) else None
    return float(seconds) if isinstance(seconds, (int, float)) else None
