"""Ranking a model's nodes by what a lower precision does to them: sensitivity."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infopt import record
from infopt.backends import backend_for
from infopt.backends.base import RunOptions
from infopt.calibration import calibrator
from infopt.errors import UsageError, interruptible
from infopt.events import Event, Listener, ignore
from infopt.evidence.data import DataSource
from infopt.evidence.shapes import Given as Shapes
from infopt.evidence.shapes import as_shapes
from infopt.importers import ImportOptions, import_model
from infopt.pipeline import Pipeline
from infopt.presets import pipeline_for
from infopt.target import DEFAULT_TARGET, parse_target
from infopt.tuning.metric import MetricSource, metric_of
from infopt.tuning.plan import plan_of
from infopt.tuning.ranking import Ranking, rank
from infopt.witness import call_witness


def sensitivity(
    source: object,
    *,
    target: str = DEFAULT_TARGET,
    precision: str = "int8",
    pipeline: str | Pipeline | None = None,
    scheme: str | Mapping[str, object] | None = None,
    shapes: Shapes = (),
    data: DataSource | None = None,
    metric: MetricSource | None = None,
    synthetic_calibration: bool = False,
    seed: int = 0,
    threads: int | None = None,
    example_inputs: Any = None,
    dynamic_shapes: Mapping[str, Mapping[int, str]] | None = None,
    task: str | None = None,
    trust_remote_code: bool = False,
    on_event: Listener = ignore,
) -> Ranking:
    """Rank the nodes of a model by the damage that each does when it alone is quantized.

    Args:
        source: As for :func:`optimize`, and so are the others that are not told here.
        target: What it is quantized for.
        precision: The precision to rank for.
        pipeline: The passes to run instead of the preset for both.
        scheme: Options of its quantizing passes.
        shapes: Sizes, or ranges of sizes.
        data: Real inputs, to calibrate and to rank on.
        metric: What to judge by, instead of the noise of the outputs: ``module:function`` or a
            function of two lists, the outputs and the inputs of the samples, each a dictionary by
            name; it returns a number, higher is better.
        synthetic_calibration: Whether to do without ``data``.
        seed: Of synthetic inputs.
        threads: Threads of one operator.
        example_inputs: For a torch module: arguments of one call.
        dynamic_shapes: For a torch module: input name → {axis: name of the dimension}.
        task: For Hugging Face: what the model does.
        trust_remote_code: Whether code in a Hugging Face directory may be run.
        on_event: Told of every step.

    Raises:
        ModelError: The source cannot become a valid model.
        UsageError: Nothing is quantized, an argument is wrong, or the metric fails.
        Interrupted: The user stopped it.
    """
    if metric is not None and data is None:
        raise UsageError("a metric says nothing about made-up inputs; give --data")
    judge = metric_of(metric)
    backend, options = backend_for(parse_target(target)), RunOptions(threads=threads)
    seen = data is not None or synthetic_calibration
    passes = pipeline_for(backend, precision, pipeline, scheme, data=seen)
    plan, sizes = plan_of(passes), as_shapes(shapes)
    data = list(data) if isinstance(data, Iterator) else data  # it is read more than once
    wishes = ImportOptions(example_inputs, dynamic_shapes, task, trust_remote_code)
    with interruptible(), tempfile.TemporaryDirectory(prefix="infopt-") as room:
        scratch = Path(room)
        on_event(Event("import", record.name(source)))
        imported = import_model(source, wishes)
        model = imported.model
        witness = call_witness(imported, backend, scratch, shapes=sizes, data=data, seed=seed)
        observe = None
        if passes.calibrates():
            observe = calibrator(
                model,
                backend,
                scratch,
                shapes=sizes,
                data=data,
                synthetic=synthetic_calibration,
                seed=seed,
                kept=None,
                tell=on_event,
            )
        plan.prepare(model, observe, on_event)
        return rank(
            plan,
            model,
            backend,
            witness.samples,
            scratch,
            metric=judge,
            options=options,
            tell=on_event,
        )
