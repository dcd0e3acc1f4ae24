"""The public functions: each one reads as the story of what it does."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from infopt import engine as engines
from infopt import fusions, record, sentences, signatures
from infopt.backends import backend_for
from infopt.backends.base import RunOptions, Session
from infopt.calibration import UNFINISHED, Calibrator, calibrator
from infopt.engine import Engine
from infopt.errors import UsageError, interruptible
from infopt.events import Event, Listener, ignore
from infopt.evidence.data import DataSource
from infopt.evidence.equivalence import Budget
from infopt.evidence.extents import profiles_of
from infopt.evidence.shapes import Given as Shapes
from infopt.evidence.shapes import Profile, as_shapes, as_text
from infopt.evidence.shapes import Shapes as Sizes
from infopt.importers import ImportOptions, import_model
from infopt.ir import queries
from infopt.measure.timing import Stopwatch
from infopt.needs import Needing
from infopt.pipeline import Pipeline, telling
from infopt.presets import HALVES, pipeline_for
from infopt.recorded import OUTSIDE, Recorded, recorded
from infopt.reports import page
from infopt.reports.inside import look_inside
from infopt.reports.pages import benchmark_page, engine_page
from infopt.sentences import NOT_MEASURED
from infopt.signatures import KeyFile
from infopt.subjects import Benchmark, load_engine, model_file, open_session
from infopt.target import DEFAULT_TARGET, parse_target
from infopt.tuning.limits import Limits, limits
from infopt.tuning.metric import MetricSource
from infopt.tuning.search import advice, keep_worst
from infopt.verification import (
    be_strict,
    budget,
    examine,
    judged,
    race,
    time_beside,
)
from infopt.witness import call_witness, find_samples


def optimize(
    source: object,
    output: str | os.PathLike[str] | None = None,
    *,
    target: str = DEFAULT_TARGET,
    precision: str = "fp32",
    pipeline: str | Pipeline | None = None,
    scheme: str | Mapping[str, object] | None = None,
    shapes: Shapes = (),
    profiles: Sequence[Profile] = (),
    data: DataSource | None = None,
    verify: bool = True,
    measure: bool | None = None,
    tolerance: float | None = None,
    least_sqnr: float | None = None,
    max_error: float | str | None = None,
    max_drop: float | None = None,
    metric: MetricSource | None = None,
    synthetic_calibration: bool = False,
    calibration: str | os.PathLike[str] | None = None,
    expect: Mapping[str, int] | None = None,
    strict: bool = False,
    force: bool = False,
    seed: int = 0,
    threads: int | None = None,
    provider_options: Mapping[str, str] | None = None,
    example_inputs: Any = None,
    dynamic_shapes: Mapping[str, Mapping[int, str]] | None = None,
    task: str | None = None,
    trust_remote_code: bool = False,
    report: str | os.PathLike[str] | None = None,
    on_event: Listener = ignore,
) -> Engine:
    """Compile a model into an engine directory, and show that it computes the same.

    Args:
        source: An ONNX file, a ``.pt2`` archive, a Hugging Face directory or hub id, or an
            object: ``torch.nn.Module``, ``ExportedProgram``, ``onnx.ModelProto``,
            ``onnx_ir.Model``.
        output: The directory to write; by default the source's name with ``.engine``, here.
        target: What to compile for, one of :data:`infopt.target.TARGETS`; for certain GPUs,
            ``tensorrt-rtx:sm86+sm89``.
        precision: One of :data:`infopt.presets.PRECISIONS`; ``fp32`` leaves every type as it is.
        pipeline: The passes to run, as text or as a :class:`Pipeline`; by default the preset
            for the target and the precision.
        scheme: How to quantize, where the preset's way is not the one wanted: options of its
            quantizing passes, ``"block=128,algorithm=awq"`` or ``{"block": 128}``.
        shapes: Sizes, or ranges of sizes, at which to compare and measure. For TensorRT an engine
            is built for these sizes only.
        profiles: For TensorRT: several such sets of sizes, for each of which the engine has
            kernels of its own; it runs at no others. What one says nothing of is as in ``shapes``.
        data: Real inputs to calibrate, compare and measure on: an ``.npz`` file, a folder of
            them, ``module:function``, or an iterable of dictionaries. Without it, inputs to
            compare and measure on are synthetic, and a precision that calibrates is refused.
        verify: Whether to compare the engine with the original.
        measure: Whether to measure its speed beside the original's; by default as ``verify``.
        tolerance: The largest relative error, ``max|a-b| / max|b|``, of an output; by default
            1e-4 at fp32, and no limit at coarser precisions.
        least_sqnr: The least signal-to-noise ratio of an output, in decibels; by default that of
            :data:`infopt.verification.BUDGETS` for the precision.
        max_error: Like ``tolerance``, or ``"25dB"`` like ``least_sqnr``; but nodes are kept in
            float, those that do the most damage first, until it holds.
        max_drop: How much of ``metric`` may be lost; nodes are kept in float until it holds.
        metric: ``module:function`` or a function of two lists, the outputs and the inputs of the
            samples, each a dictionary by name; it returns a number, higher is better.
        synthetic_calibration: Whether to calibrate on synthetic inputs where there is no data; the
            manifest says so. ``fp16`` and ``bf16`` do it in any case: they look for numbers that
            are out of range, and fix no scales.
        calibration: A file of :func:`calibrate`, which then stands for running the data.
        expect: Standard operator → how many there have to be at least after raising, as in
            ``{"Attention": 12}``.
        strict: Make an error of everything that could not be shown.
        force: Write the engine even if it computes something else; its manifest says so.
        seed: Of synthetic inputs.
        threads: Threads of one operator, for the comparison and the measurement.
        provider_options: The runtime's own options for the device; for TensorRT, the fields of
            :class:`infopt.backends.tensorrt.options.BuildOptions`.
        example_inputs: For a torch module: arguments of one call, a tuple or a dictionary.
        dynamic_shapes: For a torch module: input name → {axis: name of the dimension}.
        task: For Hugging Face: what the model does; by default read from its configuration.
        trust_remote_code: Whether code in a Hugging Face directory may be run.
        report: An HTML file to write, with all that was found, layer by layer and node by node.
        on_event: Told of every step.

    Returns:
        The engine that was written.

    Raises:
        ModelError: The source cannot become a valid model.
        UsageError: An argument is wrong, or contradicts the model.
        UnavailableError: The runtime that is needed for comparing is not installed.
        CalibrationError: ``calibration`` is damaged, or was taken of another model.
        CompileError: The target's runtime refuses the model.
        ExpectationError: There is less than ``expect`` says; the message says what was missed.
        VerificationError: The result computes something else; the message names the culprit.
        StrictError: ``strict`` forbids what happened.
        StorageError: The engine cannot be written.
    """
    aim = parse_target(target)
    backend = backend_for(aim)
    seen = data is not None or synthetic_calibration or calibration is not None
    passes = pipeline_for(backend, precision, pipeline, scheme, data=seen)
    observe: Recorded | Calibrator | None = recorded(
        calibration, passes, synthetic=synthetic_calibration
    )
    sizes = as_shapes(shapes)
    allowed = budget(precision, tolerance, least_sqnr)
    wanted = limits(max_error, max_drop, metric, usual=allowed, data=data is not None)
    if wanted is not None and not verify:
        raise UsageError("whether --max-error or --max-drop holds takes verification")
    expected = fusions.check_expected(expect)
    data = list(data) if isinstance(data, Iterator) else data  # it is read more than once
    options = RunOptions(threads=threads, provider_options=dict(provider_options or {}))
    backend.require(options)
    if profiles and not backend.bounded:
        raise UsageError(f"profiles are for TensorRT; an engine for {aim.name} runs at any sizes")
    if report is not None:
        page.check(Path(report))
    wishes = ImportOptions(example_inputs, dynamic_shapes, task, trust_remote_code)
    destination = record.destination(output, source, ".engine")

    with interruptible(), engines.staging(destination) as rooms:
        on_event(Event("import", record.name(source)))
        watch = Stopwatch()
        with watch:
            imported = import_model(source, wishes)
        model = imported.model
        extents = profiles_of(model, shapes, profiles, data) if backend.bounded else ()
        origin = record.origin(imported)
        size_before, operators_before = record.sizes(model), queries.count_operators(model)

        witness = None
        if verify:
            on_event(Event("verify", "the original"))
            witness = call_witness(
                imported,
                backend,
                rooms.scratch,
                shapes=sizes,
                data=data,
                seed=seed,
                profiles=extents if profiles else (),
            )

        if observe is None and passes.calibrates():
            observe = calibrator(
                model,
                backend,
                rooms.scratch,
                shapes=sizes,
                data=data,
                synthetic=synthetic_calibration or precision in HALVES,
                seed=seed,
                kept=destination.with_name(f"{destination.name}{UNFINISHED}"),
                tell=on_event,
            )
        mixed = None
        if wanted is not None and witness is not None:
            allowed = wanted.error
            passes, mixed = keep_worst(
                passes,
                witness,
                backend,
                rooms.scratch,
                wanted,
                observe=observe,
                options=options,
                force=force,
                tell=on_event,
            )
        with watch:
            trace, raised = fusions.run(
                passes,
                model,
                expected=expected,
                progress=telling(passes, on_event),
                observe=observe,
            )
        fusions.insist(raised, record.name(source))

        on_event(Event("compile", aim.name))
        with watch:
            backend.compile(model, rooms.payload)
            built = backend.build(rooms.payload, extents, options, rooms.scratch, on_event)

        evidence: dict[str, Any] = {
            "equivalence": f"{NOT_MEASURED}: verification was switched off",
            "speed": NOT_MEASURED,
        }
        if witness is not None:
            evidence = examine(
                witness,
                backend,
                passes,
                rooms,
                options,
                allowed,
                observe=observe,
                hint=OUTSIDE if calibration is not None and data is None else "",
                advice=advice(passes, allowed) if wanted is None else "",
                force=force,
                tell=on_event,
            )
        if witness is not None and measure is not False:
            evidence["speed"] = race(witness, backend, rooms.payload, options, on_event)
        evidence["built"] = {"seconds": watch.seconds}
        if built:
            reason = backend.unavailable()
            evidence["engine"] = f"built, not run: {reason}" if reason else "built for this GPU"
        if mixed is not None:
            evidence["mixed"] = mixed.as_dict()
        if observe is not None:
            evidence["calibration"] = observe.evidence()
        outcome = backend.outcome(rooms.payload)
        if outcome is not None:
            evidence["outcome"] = judged(outcome, precision)
        elif built:
            evidence["outcome"] = f"{NOT_MEASURED}: only on a GPU a plan shows its layers"
        if strict:
            be_strict(evidence)

        inside = None
        if report is not None:
            inside = look_inside(model, witness, backend, rooms.payload, options, allowed, on_event)
        on_event(Event("write", str(destination)))
        manifest = record.manifest(
            model,
            target=aim.name,
            precision=precision,
            pipeline=passes,
            source=origin,
            size_before=size_before,
            operators_before=operators_before,
            trace=trace,
            fusions=raised.as_dict(),
            build=built,
            evidence=evidence,
        )
        engine = engines.publish(rooms, destination, manifest)
        if observe is not None:
            observe.forget()
        if report is not None and inside is not None:
            asked = _asked(sizes, profiles, data, allowed, wanted, strict)
            page.write(engine_page(engine, asked, inside), Path(report))
        return engine


def _asked(
    shapes: Sizes,
    profiles: Sequence[Profile],
    data: DataSource | None,
    allowed: Budget,
    wanted: Limits | None,
    strict: bool,
) -> dict[str, str]:
    """What was asked for, as a report tells it."""
    sizes = [f"{name}={'x'.join(map(as_text, each))}" for name, each in shapes.items()]
    limit = {"tolerance": allowed.tolerance, "least_sqnr": allowed.least_sqnr}
    return {
        "Inputs": "synthetic" if data is None else _origin(data),
        "Sizes": ", ".join(sizes) or "chosen by infopt",
        **({"Profiles": "; ".join(map(str, profiles))} if profiles else {}),
        "Allowed": sentences.limit(limit),
        **({"Budget": str(wanted)} if wanted is not None else {}),
        "Strict": "yes" if strict else "no",
    }


def _origin(data: DataSource) -> str:
    return record.name(data) if isinstance(data, (str, os.PathLike)) else "given by the caller"


def load(
    path: str | os.PathLike[str],
    *,
    threads: int | None = None,
    provider_options: Mapping[str, str] | None = None,
    verify: bool = True,
    trusted: Sequence[KeyFile] = (),
) -> Session:
    """Load an engine, after its manifest and digests have been verified.

    Args:
        path: An engine directory.
        threads: Threads of one operator; by default every core.
        provider_options: The runtime's own options for the device.
        verify: Whether to compare the digests of all files (names and sizes always are, and the
            digest of native code).
        trusted: Files with public keys; if there are any, one of them has to have signed the
            engine.

    Returns:
        A callable that takes and returns arrays by name: numpy arrays, or torch tensors.

    Raises:
        EngineError: The directory is no engine, damaged, or not signed by whom it has to be.
        UnavailableError: The runtime or the device is not there.
    """
    options = RunOptions(threads, dict(provider_options or {}))
    return load_engine(Path(path), options, verify=verify, trusted=trusted)


def sign(path: str | os.PathLike[str], key: KeyFile) -> str:
    """Sign an engine, after its manifest and digests have been verified.

    Args:
        path: An engine directory.
        key: A PEM file with a private Ed25519 key.

    Returns:
        The fingerprint of the key, by which those who load the engine know it.

    Raises:
        EngineError: The directory is no engine, or damaged.
        UsageError: The file holds no such key.
        UnavailableError: The cryptography package is not installed.
    """
    return signatures.sign(engines.open_engine(Path(path)), key)


def benchmark(
    *subjects: object,
    shapes: Shapes = (),
    data: DataSource | None = None,
    seconds: float = 10.0,
    threads: int | None = None,
    seed: int = 0,
    concurrency: int | None = None,
    price_per_hour: float | None = None,
    cold_starts: bool = False,
    trusted: Sequence[KeyFile] = (),
    report: str | os.PathLike[str] | None = None,
    on_event: Listener = ignore,
) -> Benchmark:
    """Time models and engines on the same inputs, interleaved in one run.

    Args:
        *subjects: Engine directories, or anything that can be imported: a model runs as the
            runtime runs it by default. The first is the baseline.
        shapes: Sizes of dynamic dimensions; for a range, both ends are timed.
        data: Real inputs, each of which is timed; by default one synthetic sample.
        seconds: Time budget, for all samples together.
        threads: Threads of one operator; by default every core.
        seed: Of synthetic inputs.
        concurrency: Also how many requests a second are answered, so many at a time; by default as
            many as there are cores, where ``price_per_hour`` is given, and else not.
        price_per_hour: Of a machine like this one: what a million requests cost then.
        cold_starts: Also how long a fresh process takes to its first answer, and its memory.
        trusted: Files with public keys; if there are any, one of them has to have signed an
            engine.
        report: An HTML file to write.
        on_event: Told of every step.

    Raises:
        UsageError: No subjects, or ``shapes`` or ``data`` that do not fit.
        ModelError: A subject is no valid model.
        UnavailableError: A runtime or device is not there.
    """
    if not subjects:
        raise UsageError("nothing to measure; name at least one engine or model")
    if report is not None:
        page.check(Path(report))
    options = RunOptions(threads=threads)
    wanted = as_shapes(shapes)
    with interruptible(), tempfile.TemporaryDirectory(prefix="infopt-") as scratch:
        sessions = {}
        for number, subject in enumerate(subjects):
            name = record.name(subject)
            on_event(Event("import", name))
            label = f"{name} again" if name in sessions else name
            sessions[label] = open_session(subject, Path(scratch) / str(number), options, trusted)
        first = next(iter(sessions.values()))
        model = import_model(model_file(subjects[0], trusted)).model
        samples, _ = find_samples(model, first, shapes=wanted, data=data, seed=seed)
        if data is None:
            samples = samples[: 2 if wanted else 1]
        runs = []
        for sample in samples:
            on_event(Event("measure", sample.shapes()))
            found = time_beside(sessions, sample, seconds=seconds / len(samples), noise=True)
            runs.append((sample.shapes(), found))
        needs = Needing(
            samples[0], options, Path(scratch), concurrency, price_per_hour, cold_starts
        )
        on_event(Event("measure", "what they need"))
        found_needs = needs.of(subjects, sessions)
        measured = Benchmark(tuple(sessions), tuple(runs), found_needs)
    if report is not None:
        page.write(benchmark_page(record.plain(measured.as_dict())), Path(report))
    return measured
