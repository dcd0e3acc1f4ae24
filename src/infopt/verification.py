"""Verification: the compiled engine against the model that entered; on failure, who is guilty."""

from __future__ import annotations

import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from infopt.backends.base import Backend, Outcome, RunOptions, Session
from infopt.engine import Staging
from infopt.errors import InfoptError, StrictError, UsageError, VerificationError
from infopt.events import Event, Listener
from infopt.evidence.bisect import first_bad
from infopt.evidence.equivalence import Budget, Equivalence, Sample, compare
from infopt.evidence.repeats import repeat
from infopt.measure.timing import Measurement, interleave, until_precise
from infopt.pipeline import Observer, Pipeline, Stop
from infopt.presets import INTEGERS
from infopt.sentences import NOT_MEASURED
from infopt.subjects import timed
from infopt.witness import Witness

NOTHING_QUANTIZED = "nothing was quantized; what the passes left alone, and why, shows -v"
TOLERANCE = 1e-4
"""Largest relative error, ``max|a-b| / max|b|``, of an fp32 engine: the rounding of reordered
sums stays below it by an order of magnitude or more, a wrong rewrite lies far above."""
_RACE_SECONDS = 3.0


BUDGETS: Mapping[str, Budget] = {
    "fp32": Budget(TOLERANCE),
    # A coarser type rounds at every step, and how much of that a use can bear is its own to say
    # (--min-sqnr). These floors only tell coarse from broken: models that came out right showed
    # 63 dB at fp16, 45 at bf16, 13 to 24 at int8, 12 to 42 at int8-dynamic; a wrong rewrite leaves
    # 0 or less, and MiniLM with one scale for all weights of a layer 3.
    "fp16": Budget(math.inf, least_sqnr=35.0),
    "bf16": Budget(math.inf, least_sqnr=20.0),
    # Floats with three bits behind the point: 14 dB and more.
    "fp8": Budget(math.inf, least_sqnr=8.0),
    "int8": Budget(math.inf, least_sqnr=10.0),
    "int8-dynamic": Budget(math.inf, least_sqnr=10.0),
    # The original rounds, too: what differs are ties, and half a unit of a bias (47 dB and more).
    "int8-trained": Budget(math.inf, least_sqnr=20.0),
    "int4": Budget(math.inf, least_sqnr=5.0),
}
"""How far an engine may be from the original, by its precision."""


def budget(precision: str, tolerance: float | None, least_sqnr: float | None = None) -> Budget:
    """The budget to use: the precision's, unless the caller says something else.

    Raises:
        UsageError: A figure is negative or not a number.
    """
    usual = BUDGETS[precision]
    if tolerance is not None and not tolerance >= 0:
        raise UsageError(f"the tolerance must be a number of at least 0, not {tolerance}")
    if least_sqnr is not None and math.isnan(least_sqnr):
        raise UsageError("the least SQNR must be a number of decibels")
    return Budget(
        usual.tolerance if tolerance is None else tolerance,
        usual.least_sqnr if least_sqnr is None else least_sqnr,
    )


def examine(
    witness: Witness,
    backend: Backend,
    passes: Pipeline,
    rooms: Staging,
    options: RunOptions,
    allowed: Budget,
    *,
    observe: Observer | None = None,
    hint: str = "",
    advice: str = "",
    force: bool,
    tell: Listener,
) -> dict[str, Any]:
    """The evidence that the payload computes what the original does, or an error that says why.

    Args:
        witness: Knows what is right, and on which inputs.
        backend: Of the target.
        passes: What the payload was made by.
        rooms: The payload, and room for attempts.
        options: How to run it.
        allowed: How far it may be from the original.
        observe: Knows what was observed where the pipeline calibrates.
        hint: What else an error is to say.
        advice: What to do first, where the payload is wrong.
        force: Whether a payload that is wrong is evidence, too, instead of an error.
        tell: Told of every step.

    Raises:
        VerificationError: It computes something else; the message names the culprit.
    """
    evidence: dict[str, Any] = {}
    imported = witness.examine_import(BUDGETS["fp32"])
    if imported is not None:
        tell(Event("verify", "the export"))
        evidence["export"] = imported.as_dict()
        if not imported.holds and not force:
            raise VerificationError(
                f"the exported model already differs from the source framework: "
                f"{_furthest(imported)}; the exporter is at fault, not a pass of infopt. "
                "Allow it with --tolerance, or write the engine anyway with --force"
            )

    unavailable = backend.unavailable()
    session, ran = load_payload(backend, rooms.payload, options)
    tell(Event("verify", f"{len(witness.samples)} samples, {ran}"))
    found = witness.examine(session, allowed)
    evidence["equivalence"] = {**found.as_dict(), "ran": ran}
    if unavailable is not None:
        evidence["target"] = f"{NOT_MEASURED}: {unavailable}"
    elif backend.target.device == "cuda":
        evidence["repeats"] = _insist_on_the_same(
            session, witness, found.undetermined, force=force, tell=tell
        )
    if session.facts():
        evidence["session"] = session.facts()
    if found.holds:
        return evidence

    del session
    culprit = find_culprit(
        passes,
        backend,
        witness,
        witness.samples[found.failing[0]],
        allowed=allowed,
        observe=observe,
        scratch=rooms.scratch,
        progress=lambda what: tell(Event("bisect", what)),
    )
    evidence["culprit"] = dataclasses.asdict(culprit)
    if not force:
        raise VerificationError(
            f"the engine does not compute what the original does: {_furthest(found)}. "
            f"Guilty: {culprit}. {hint}No engine was written; {advice}leave that pass out with "
            "--pipeline, allow the error with --tolerance or --min-sqnr, or write it anyway with "
            "--force"
        )
    return evidence


def load_payload(backend: Backend, payload: Path, options: RunOptions) -> tuple[Session, str]:
    """A payload as it will run, or, without the device, simulated; and which, in words."""
    if backend.unavailable() is None:
        return backend.load(payload, options), f"on {backend.target.name}"
    return backend.simulate(payload, options), "simulated on the processor"


def examine_payload(
    witness: Witness,
    backend: Backend,
    payload: Path,
    options: RunOptions,
    allowed: Budget,
    tell: Listener,
) -> tuple[Equivalence, str]:
    """Compare a payload, as it will run, with the original; and where it ran, in words."""
    session, ran = load_payload(backend, payload, options)
    tell(Event("verify", f"{len(witness.samples)} samples, {ran}"))
    return witness.examine(session, allowed), ran


def _insist_on_the_same(
    session: Session, witness: Witness, skip: Collection[str], *, force: bool, tell: Listener
) -> dict[str, Any]:
    """The evidence that a device computes the same from the same inputs each time."""
    tell(Event("verify", "the same inputs again and again"))
    # The first is the smallest as a rule, and the last the largest.
    ends = witness.samples[:1] + witness.samples[1:][-1:]
    found = repeat(session, ends, skip=skip)
    if not found.holds and not force:
        name = max(found.worst, key=lambda name: found.worst[name])
        raise VerificationError(
            f"the engine does not compute the same each time: output {name!r} differs by "
            f"{found.worst[name]:.2g} between {found.times} runs on the same inputs, allowed are "
            f"{found.bound:.2g}. Something is read before it is written, or the model draws random "
            "numbers. No engine was written; write it anyway with --force"
        )
    return found.as_dict()


def _furthest(found: Equivalence) -> str:
    name, worst = max(found.outputs.items(), key=lambda item: item[1].max_relative)
    where = found.samples[found.failing[0]]
    if worst.max_relative > found.tolerance:
        return (
            f"output {name!r} has relative error {worst.max_relative:.2g}, "
            f"allowed are {found.tolerance:.2g} (on {where})"
        )
    name, worst = min(found.outputs.items(), key=lambda item: item[1].sqnr_db)
    return (
        f"output {name!r} has an SQNR of {worst.sqnr_db:.1f} dB, "
        f"needed are {found.least_sqnr:.1f} dB (on {where})"
    )


def race(
    witness: Witness, backend: Backend, payload: Path, options: RunOptions, tell: Listener
) -> Any:
    """The engine and the original, as the runtime runs it by default, timed in one run."""
    reason = backend.unavailable()
    if reason is not None:
        return f"{NOT_MEASURED}: {reason}"
    sample = witness.samples[0]
    tell(Event("measure", sample.shapes()))
    sessions = {
        "original": backend.open_model(witness.file, options),
        "engine": backend.load(payload, options),
    }
    found = time_beside(sessions, sample, seconds=_RACE_SECONDS)
    return timed(sample.shapes(), found)


def time_beside(
    sessions: Mapping[str, Session], sample: Sample, seconds: float, *, noise: bool = False
) -> Measurement:
    """Time sessions on one sample, interleaved in one run; the first is the baseline."""
    calls = {name: functools.partial(session, sample.inputs) for name, session in sessions.items()}
    return interleave(calls, seconds=seconds, enough=until_precise(0.01), noise=noise)


def judged(outcome: Outcome, precision: str) -> dict[str, Any]:
    """What a runtime makes of the engine, as evidence, and what is to be said of it."""
    nothing = not (outcome.integer or outcome.floating or outcome.notes)
    notes = [NOTHING_QUANTIZED] if nothing and precision in INTEGERS else []
    return {**outcome.as_dict(), "notes": [*outcome.notes, *notes]}


def be_strict(evidence: Mapping[str, Any]) -> None:
    """Raise on whatever was not shown."""
    for what, found in evidence.items():
        if isinstance(found, str) and found.startswith(NOT_MEASURED):
            raise StrictError(f"--strict: {what} was {found}")
        for part in ("undetermined", "notes", "floating"):
            if isinstance(found, Mapping) and found.get(part):
                raise StrictError(f"--strict: {what}, {part}: {'; '.join(found[part])}")


@dataclasses.dataclass(frozen=True)
class Culprit:
    """What broke the model: the narrowest thing that could be found."""

    step: str
    """A pass as written in the pipeline, or the runtime's own optimizations."""
    rule: str = ""
    node: str = ""

    def __str__(self) -> str:
        """Return a clause for an error message."""
        return f"{self.step}, rule {self.rule} at node {self.node!r}" if self.rule else self.step


def find_culprit(
    pipeline: Pipeline,
    backend: Backend,
    witness: Witness,
    sample: Sample,
    *,
    allowed: Budget,
    observe: Observer | None = None,
    scratch: Path,
    progress: Callable[[str], None] = lambda _: None,
) -> Culprit:
    """Replay the pipeline, stopping earlier and earlier, until one change is guilty.

    Args:
        pipeline: The pipeline that broke the model.
        backend: Runs the candidates.
        witness: Knows what is right.
        sample: Inputs on which the result is wrong.
        allowed: Beyond it a candidate is wrong.
        observe: Knows what was observed where the pipeline calibrates.
        scratch: Room for the candidates.
        progress: Told what is being tried.
    """

    def is_bad(stop: Stop | None) -> bool:
        model = witness.model()
        with tempfile.TemporaryDirectory(dir=scratch) as room:
            try:
                pipeline.run(model, stop=stop, observe=observe)
                backend.compile(model, Path(room))
                session = backend.simulate(Path(room), RunOptions(optimize=False))
                found = compare(
                    session,
                    witness.session,
                    [sample],
                    budget=allowed,
                    described="",
                    kinds=witness.kinds,
                )
            except InfoptError:
                return True
            return not found.holds

    def runs_bad(runs: int) -> bool:
        progress(f"the first {runs} of {len(trace)} pass runs")
        return is_bad(Stop(runs))

    def changes_bad(changes: int) -> bool:
        progress(f"{run.spec}: the first {changes} of {len(run.changes)} changes")
        return is_bad(Stop(guilty - 1, changes))

    trace = pipeline.run(witness.model(), observe=observe)
    if not is_bad(None):
        return Culprit("the runtime's own graph optimizations")
    guilty = first_bad(len(trace), runs_bad)
    run = trace[guilty - 1]
    if not run.changes:
        return Culprit(run.spec)
    change = run.changes[first_bad(len(run.changes), changes_bad) - 1]
    return Culprit(run.spec, change.rule, change.node)
