"""The gate: an engine's facts become a baseline, and later engines are held against it."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from infopt import engine as engines
from infopt import provenance, record, signatures
from infopt.errors import BaselineError, UsageError, interruptible
from infopt.events import Event, Listener, ignore
from infopt.evidence.data import DataSource
from infopt.evidence.equivalence import Budget, Sample
from infopt.evidence.shapes import Given as Shapes
from infopt.evidence.shapes import as_shapes
from infopt.gates.baseline import Baseline, Conditions, Reference, read_baseline
from infopt.gates.facts import Facts
from infopt.gates.findings import Check
from infopt.gates.judging import interface_changes, judge
from infopt.gates.limits import Limits, share
from infopt.importers import Imported, ImportOptions, import_model
from infopt.ir import digest, files
from infopt.looking import Setting, look
from infopt.measure.sequential import Watch, until_decided, until_known
from infopt.reports import page
from infopt.reports.pages import check_page
from infopt.signatures import KeyFile
from infopt.tuning.limits import limits as error_limits
from infopt.tuning.metric import Metric, MetricSource, metric_of

SECONDS = 20.0
"""What a check may take, as far as measuring goes."""
BASELINE_SECONDS = 120.0
PRECISION = 0.0075
"""How closely a baseline wants to know the speed of its engine."""
COLD_PRECISION = 0.05
_COLD_KNOWN = (12, 20, 32)
COLD_LOOKS = (3, 5, 8)
COLD_ERROR = 0.5
"""A process takes a second to start, so that three starts of each have to do: where the truth lies
at the limit, one in eight such threes is beyond it by chance. The limit is wide for that reason."""
THREADS = 1
"""By default. A runtime with a thread for every core waits for the last of them, and where somebody
else has taken a core, that is what is measured. On two cores, beside a busy neighbour, single calls
scattered by 20 % with two threads, and by 1 % with one."""


def take_baseline(
    engine: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    reference: object = None,
    keep_reference: bool = False,
    shapes: Shapes = (),
    data: DataSource | None = None,
    metric: MetricSource | None = None,
    seed: int = 0,
    threads: int = THREADS,
    cold_starts: bool = True,
    seconds: float = BASELINE_SECONDS,
    trusted: Sequence[KeyFile] = (),
    import_options: ImportOptions | None = None,
    on_event: Listener = ignore,
) -> Baseline:
    """Write down what an engine is and does, for :func:`check`.

    Args:
        engine: An engine directory.
        output: The file to write; ``None`` writes none.
        reference: The model that the engine was made from, which is what its speed, its memory and
            its outputs are compared with: anything that can be imported. By default the file or
            directory of the name that the engine knows, beside the engine or here.
        keep_reference: Write the reference as an ONNX file beside the baseline, and refer to that:
            for models in memory, and so that a check needs no framework.
        shapes: Sizes of dynamic dimensions.
        data: Real inputs. The first is the one that is timed.
        metric: The figure of the user's own, as for :func:`infopt.optimize`.
        seed: Of synthetic inputs.
        threads: Threads of one operator; 0 is every core.
        cold_starts: Whether to start processes of their own, for the time to the first answer and
            for memory; what a baseline has not, no check measures.
        seconds: How long measuring may take.
        trusted: Files with public keys; if there are any, one of them has to have signed the
            engine.
        import_options: What is to be known of the reference besides.
        on_event: Told of every step.

    Raises:
        BaselineError: The reference is not found, or the engine was made from another one.
        EngineError: The directory is no engine, or not signed by whom it has to be.
        UsageError: ``shapes`` or ``data`` do not fit, or there is a metric and no data.
    """
    opened = engines.open_engine(Path(engine))
    if trusted:
        signatures.require(opened, trusted)
    judge_by = _metric(metric, data)
    data = list(data) if isinstance(data, Iterator) else data
    threads = threads or _cores()
    file = None if output is None else Path(output)
    with interruptible(), tempfile.TemporaryDirectory(prefix="infopt-") as scratch:
        given = _source(opened) if reference is None else reference
        on_event(Event("import", record.name(given)))
        imported = import_model(given, import_options)
        known, found = opened.manifest.source.get("digest"), digest.model_digest(imported.model)
        if known != found:
            raise BaselineError(
                f"{engine} was made from a model with digest {known}, and {record.name(given)} has "
                f"{found}; name the right one with --reference"
            )
        if keep_reference:
            imported, given = _kept(imported, file)
        sizes = as_shapes(shapes)
        setting = Setting.of(
            imported, opened.manifest.target, Path(scratch), sizes, data, seed, threads, on_event
        )
        facts = look(
            opened.path,
            setting,
            metric=judge_by,
            speed=until_known(PRECISION),
            cold_start=until_known(COLD_PRECISION, _COLD_KNOWN) if cold_starts else None,
            seconds=seconds,
        )
        taken = Baseline(
            engine=record.name(engine),
            digest=opened.manifest.model_digest,
            target=opened.manifest.target,
            precision=opened.manifest.precision,
            reference=Reference(_place(given, file), found),
            conditions=Conditions(
                {name: tuple(ranges) for name, ranges in sizes.items()},
                seed,
                digest_of(setting.witness.samples),
                data is not None,
                threads,
            ),
            facts=facts,
            versions=provenance.versions(),
            hardware=provenance.hardware(),
        )
        if file is not None:
            on_event(Event("write", str(file)))
            taken.write(file)
        return taken


def check(
    subject: str | os.PathLike[str],
    baseline: str | os.PathLike[str],
    *,
    reference: object = None,
    data: DataSource | None = None,
    metric: MetricSource | None = None,
    max_slowdown: float | str = 0.05,
    max_error: float | str | None = None,
    max_drop: float | None = None,
    max_size_growth: float | str = 0.05,
    max_memory_growth: float | str = 0.2,
    max_cold_start_growth: float | str = 0.25,
    allow: Sequence[str] = (),
    lenient: bool = False,
    seconds: float = SECONDS,
    trusted: Sequence[KeyFile] = (),
    report: str | os.PathLike[str] | None = None,
    import_options: ImportOptions | None = None,
    on_event: Listener = ignore,
) -> Check:
    """Hold an engine, or a model, against a baseline.

    Args:
        subject: An engine directory, or an ONNX file, a Hugging Face directory and so on.
        baseline: A file that :func:`take_baseline` wrote.
        reference: The reference, where it is not in its place any more.
        data: The inputs that the baseline was taken on, where it was taken on given ones.
        metric: The metric that it was taken with. A baseline names no code to run.
        max_slowdown: How much longer a call may take, as a multiple of the reference's: ``"5%"``.
        max_error: How far an output may be from the reference's: ``0.05`` or ``"25dB"``. By default
            twice the error of the baseline, and never less than rounding.
        max_drop: How much of ``metric`` may be lost.
        max_size_growth: How much larger all files may be.
        max_memory_growth: How much more memory a fresh process may need.
        max_cold_start_growth: How much longer it may take to its first answer.
        allow: Names of findings that are told, but do not count.
        lenient: Whether what is inconclusive passes.
        seconds: How long it may take, all in all.
        trusted: Files with public keys; if there are any, one of them has to have signed an
            engine.
        report: An HTML file to write.
        import_options: What is to be known of sources besides.
        on_event: Told of every step.

    Raises:
        BaselineError: The baseline makes no sense, its reference is not found or is another model,
            or the inputs are not those that it was taken on.
        UsageError: A limit makes no sense.
        EngineError: The subject is an engine, and damaged or not signed by whom it has to be.
        ModelError: The subject is no valid model.
        UnavailableError: A report is asked for, and what draws it is not installed.
    """
    start = time.perf_counter()
    if report is not None:
        page.check(Path(report))
    if trusted and engines.is_engine(Path(subject)):
        signatures.require(engines.open_engine(Path(subject)), trusted)
    then = read_baseline(Path(baseline))
    bounds = Limits(
        slowdown=share(max_slowdown),
        size_growth=share(max_size_growth),
        memory_growth=share(max_memory_growth),
        cold_start_growth=share(max_cold_start_growth),
        error=error_limits(
            max_error, max_drop, metric, usual=Budget(math.inf), data=data is not None
        ),
        allowed=frozenset(allow),
    )
    judge_by = None if bounds.error is None else bounds.error.metric
    data = list(data) if isinstance(data, Iterator) else data
    if then.conditions.data and data is None:
        raise UsageError(f"{baseline} was taken on given data; give the same with --data")
    if data is not None and not then.conditions.data:
        raise UsageError(f"{baseline} was taken on made-up inputs; check without --data")
    with interruptible(), tempfile.TemporaryDirectory(prefix="infopt-") as scratch:
        imported = _reference(then, Path(baseline), reference, import_options, on_event)
        conditions = then.conditions
        setting = Setting.of(
            imported,
            then.target,
            Path(scratch),
            conditions.shapes,
            data,
            conditions.seed,
            conditions.threads,
            on_event,
        )
        if digest_of(setting.witness.samples) != conditions.samples:
            raise BaselineError(
                f"these are not the inputs that {baseline} was taken on; give the same data, or "
                "take the baseline again"
            )
        fast = then.facts.speed
        now = look(
            subject,
            setting,
            metric=judge_by,
            speed=None if fast is None else until_decided(fast, bounds.slowdown),
            cold_start=_start_watch(then.facts, bounds),
            seconds=seconds - (time.perf_counter() - start),
            fits=lambda facts: not interface_changes(then.facts, facts),
            options=import_options,
        )
        if then.facts.metric is not None and judge_by is None:
            reason = f"give --metric {then.facts.metric.name} and --max-drop"
            now = now.without(reason, "metric")
        found = Check(
            subject=record.name(subject),
            baseline=str(baseline),
            findings=judge(then, now, bounds),
            seconds=time.perf_counter() - start,
            notes=tuple(_notes(then)),
            lenient=lenient,
        )
    if report is not None:
        page.write(check_page(record.plain(found.as_dict())), Path(report))
    return found


def digest_of(samples: Sequence[Sample]) -> str:
    """``sha256:…`` of names, types, shapes and values of all inputs."""
    known = hashlib.sha256()
    for sample in samples:
        for name in sorted(sample.inputs):
            array = np.asarray(sample.inputs[name])
            known.update(f"{name}:{array.dtype}:{array.shape}:".encode())
            plain = array.dtype.kind not in "OUS"
            known.update(array.tobytes() if plain else repr(array.tolist()).encode())
    return f"sha256:{known.hexdigest()}"


def _metric(metric: MetricSource | None, data: DataSource | None) -> Metric | None:
    if metric is not None and data is None:
        raise UsageError("a metric says nothing about made-up inputs; give --data")
    return metric_of(metric)


def _source(engine: engines.Engine) -> Path:
    """The source of an engine, by the name that it knows: beside it, or here."""
    name = str(engine.manifest.source.get("name", ""))
    places = [engine.path.resolve().parent / name, Path(name)]
    found = [place for place in places if name and place.exists()]
    if not found:
        raise BaselineError(
            f"{engine.path} was made from {name or 'a model in memory'}, which is neither beside "
            "it nor here; name it with --reference"
        )
    return found[0]


def _kept(imported: Imported, file: Path | None) -> tuple[Imported, Path]:
    """The reference as an ONNX file beside the baseline."""
    if file is None:
        raise UsageError("to keep the reference beside the baseline takes an output")
    room = file.with_name(f"{file.stem}.reference")
    room.mkdir(parents=True, exist_ok=True)
    files.write_onnx(imported.model, room)
    place = room / files.MODEL_FILE
    return import_model(place), place


def _place(reference: object, file: Path | None) -> str:
    if not isinstance(reference, (str, os.PathLike)):
        raise UsageError(
            "the reference is a model in memory, which no check will find again; keep it beside "
            "the baseline (keep_reference=True), or name a file"
        )
    path = Path(reference)
    if not path.exists() or file is None:
        return str(reference)
    return os.path.relpath(path.resolve(), file.resolve().parent)


def _reference(
    then: Baseline,
    file: Path,
    given: object,
    options: ImportOptions | None,
    on_event: Listener,
) -> Imported:
    wanted = then.reference
    if given is None:
        place = file.resolve().parent / wanted.place
        if not place.exists():
            raise BaselineError(
                f"the reference of {file} is not at {place}; get it there, or say where it is "
                "with --reference"
            )
        given = place
    on_event(Event("import", record.name(given)))
    imported = import_model(given, options)
    found = digest.model_digest(imported.model)
    if found != wanted.digest:
        raise BaselineError(
            f"{record.name(given)} is not the reference of {file}: its digest is {found}, and "
            f"{wanted.digest} is wanted; name the right model with --reference, or take the "
            "baseline again"
        )
    return imported


def _start_watch(then: Facts, bounds: Limits) -> Watch | None:
    """When processes of their own have been started often enough."""
    if then.cold_start is not None:
        limit = bounds.cold_start_growth
        return until_decided(then.cold_start, limit, COLD_LOOKS, COLD_ERROR)
    return None if then.memory is None else Watch(lambda now: True, looks=COLD_LOOKS)


def _notes(then: Baseline) -> Iterator[str]:
    here = provenance.hardware()
    for what in ("processor", "cores"):
        if then.hardware.get(what) != here[what]:
            yield (
                f"the baseline was taken on another machine: {what} {then.hardware.get(what)}, "
                f"here {here[what]}; ratios to the reference carry over as far as both change alike"
            )
    versions = provenance.versions()
    for name in ("onnxruntime", "onnxruntime-gpu", "infopt"):
        if then.versions.get(name) != versions.get(name):
            was, is_ = then.versions.get(name, "none"), versions.get(name, "none")
            yield f"{name} is {is_} here, and was {was} for the baseline"


def _cores() -> int:
    return int(provenance.hardware()["cores"])
