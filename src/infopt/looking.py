"""Looking: finds out the facts of an engine or a model, on the inputs of a reference."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from infopt import answering
from infopt.backends import backend_for
from infopt.backends.base import Backend, RunOptions, Session
from infopt.engine import Engine
from infopt.errors import InfoptError
from infopt.events import Event, Listener
from infopt.evidence.data import DataSource
from infopt.evidence.equivalence import Budget
from infopt.evidence.shapes import Shapes
from infopt.fusions import raised_operators
from infopt.gates.facts import Error, Facts, Memory
from infopt.gates.facts import Metric as MetricFact
from infopt.importers import Imported, ImportOptions
from infopt.inspection import inspect
from infopt.ir.products import products
from infopt.measure.fresh import first_answers
from infopt.measure.sequential import Watch
from infopt.measure.timing import AGAIN, Samples, Subject, interleave
from infopt.subjects import open_session, size_on_disk
from infopt.target import DEFAULT_TARGET, parse_target
from infopt.tuning.metric import Metric
from infopt.witness import Witness, call_witness
from infopt.words import count

PARTS = 3
"""In how many parts a sample is taken, the quickest of which counts; where threads have to come to
rest between them, there is one."""
_MEASURING = 0.85
"""Part of the time in which all has to be measured: a process also starts, and the last round ends
late."""
_ROUNDS = 0.85
"""Part of that which is for rounds; warming up comes on top."""
_COLD = 1 / 3
"""Part that is for cold starts, of which less is asked than of the speed."""
_OWN, _REFERENCE = "subject", "reference"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What subjects are looked at beside, and on."""

    witness: Witness
    """The reference, and the inputs."""
    backend: Backend
    """Of the target, on which the reference is timed as its runtime runs it by default."""
    options: RunOptions
    room: Path
    tell: Listener

    @classmethod
    def of(
        cls,
        reference: Imported,
        target: str,
        room: Path,
        shapes: Shapes,
        data: DataSource | None,
        seed: int,
        threads: int,
        tell: Listener,
    ) -> Setting:
        """Find the inputs, and get the reference ready."""
        tell(Event("verify", "the reference"))
        scratch = room / _REFERENCE
        scratch.mkdir()
        processor = backend_for(parse_target(DEFAULT_TARGET))
        witness = call_witness(reference, processor, scratch, shapes=shapes, data=data, seed=seed)
        options = RunOptions(threads=threads)
        return cls(witness, backend_for(parse_target(target)), options, room, tell)


def look(
    subject: str | os.PathLike[str],
    setting: Setting,
    *,
    metric: Metric | None,
    speed: Watch | None,
    cold_start: Watch | None,
    seconds: float,
    fits: Callable[[Facts], bool] = lambda facts: True,
    options: ImportOptions | None = None,
) -> Facts:
    """All facts of ``subject``.

    Args:
        subject: An engine directory, or a model.
        setting: What to hold it against.
        metric: The user's own figure.
        speed: When its speed is known well enough; ``None`` where nobody wants to know.
        cold_start: The same of its cold start.
        seconds: How long all of it may take. What cold starts leave is for the speed.
        fits: Whether it can be run on the inputs, by what is known without running it.
        options: What is to be known of a model besides.
    """
    end = time.perf_counter() + _MEASURING * seconds
    seen = inspect(subject, import_options=options)
    facts = Facts(
        inputs=seen.inputs,
        outputs=seen.outputs,
        operators=seen.operators,
        fusions=_fusions(seen.engine, seen.operators),
        products=products(seen.model),
        size=size_on_disk(subject),
    )
    runs = ("error", "metric", "latency", "cold-start", "memory")
    if not fits(facts):
        reason = "its inputs and outputs are not those of the baseline"
        return facts.without(reason, *runs)
    unavailable = setting.backend.unavailable()
    if unavailable is not None:
        return facts.without(unavailable, *runs)
    found = _Looker(subject, setting)
    facts = found.exactness(facts, metric)
    # First what takes its time in any case; the speed then makes do with what is left.
    if cold_start is not None:
        facts = found.start(facts, cold_start, _COLD * _left(end))
    return facts if speed is None else found.speed(facts, speed, _ROUNDS * _left(end))


def _left(end: float) -> float:
    return max(end - time.perf_counter(), 0.0)


class _Looker:
    """Runs a subject."""

    def __init__(self, subject: str | os.PathLike[str], setting: Setting) -> None:
        self._subject = subject
        self._setting = setting

    def _open(self) -> Session:
        room = self._setting.room / _OWN
        return open_session(self._subject, room, self._setting.options)

    def exactness(self, facts: Facts, metric: Metric | None) -> Facts:
        """Error and metric."""
        witness, tell = self._setting.witness, self._setting.tell
        tell(Event("verify", count(len(witness.samples), "sample")))
        session = self._open()
        found = witness.examine(session, Budget(math.inf))
        errors = {
            name: Error(float(far.max_relative), float(far.sqnr_db))
            for name, far in found.outputs.items()
        }
        facts = dataclasses.replace(facts, error=errors)
        if metric is None:
            return facts
        inputs = [sample.inputs for sample in witness.samples]
        value = metric([session(given) for given in inputs], inputs)
        return dataclasses.replace(facts, metric=MetricFact(metric.name, value))

    def speed(self, facts: Facts, watch: Watch, seconds: float) -> Facts:
        """The speed beside the reference's, in sessions that are made anew again and again."""
        setting = self._setting
        sample = setting.witness.samples[0]
        setting.tell(Event("measure", sample.shapes()))

        def reference() -> Session:
            return setting.backend.open_model(setting.witness.file, setting.options)

        ways = {_REFERENCE: reference, _OWN: self._open, AGAIN: reference}
        order = random.Random(0)

        def subjects() -> dict[str, Subject]:
            # The first of several sessions is the slower one by a percent: each comes first at
            # times.
            opened = {name: ways[name]() for name in order.sample(list(ways), len(ways))}
            return {name: functools.partial(opened[name], sample.inputs) for name in ways}

        # With one thread on the processor there are none that go on spinning after a call, nor any
        # that are waited for: what a call takes is what it computes, whoever else is there.
        alone = setting.options.threads == 1 and setting.backend.target.name == DEFAULT_TARGET
        rest, timer, parts = (0.0, time.process_time, PARTS) if alone else (None, None, 1)
        samples: dict[str, Sequence[float]] = {}

        def enough(taken: Samples) -> bool:
            samples.update(taken)
            return watch(taken)

        interleave(
            subjects(),
            seconds=seconds,
            enough=enough,
            renew=subjects,
            parts=parts,
            rest=rest,
            timer=timer,
        )
        found = watch.speed(samples)
        if not math.isfinite(found.high):
            return facts.without(_few(samples), "latency")
        return dataclasses.replace(facts, speed=found)

    def start(self, facts: Facts, watch: Watch, seconds: float) -> Facts:
        """Cold start and peak memory, of processes of their own."""
        setting = self._setting
        sample = setting.witness.samples[0]
        if not answering.can_keep(sample.inputs):
            return facts.without("inputs are strings", "cold-start", "memory")
        setting.tell(Event("measure", "cold starts"))
        inputs = setting.room / "inputs.npz"
        np.savez(inputs, allow_pickle=False, **dict(sample.inputs))
        threads = setting.options.threads
        commands = {
            name: answering.command(subject, inputs, threads)
            for name, subject in ((_REFERENCE, setting.witness.file), (_OWN, self._subject))
        }
        try:
            found = first_answers(commands, seconds=seconds, enough=watch)
        except InfoptError as error:
            return facts.without(str(error), "cold-start", "memory")
        memory = Memory(found.peak_rss[_OWN], found.peak_rss[_REFERENCE])
        facts = dataclasses.replace(facts, memory=memory)
        known = watch.speed(found.seconds)
        if not math.isfinite(known.high):
            return facts.without(_few(found.seconds), "cold-start")
        return dataclasses.replace(facts, cold_start=known)


def _few(samples: Mapping[str, Sequence[float]]) -> str:
    return f"in the time allowed there were {len(samples[_OWN])} rounds, too few to say anything"


def _fusions(engine: Engine | None, operators: Mapping[str, int]) -> dict[str, int]:
    """What raising made of an engine; of a model, the operators that raising is about."""
    if engine is None:
        return {name: operators[name] for name in raised_operators() if name in operators}
    return {name: int(counts["found"]) for name, counts in engine.manifest.fusions.items()}
