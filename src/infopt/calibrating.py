"""Calibrating apart from compiling: a model is observed once, in one place or in many."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from infopt import engine as engines
from infopt import record
from infopt.backends import backend_for
from infopt.calibration import UNFINISHED, Enough, calibrator
from infopt.errors import CalibrationError, UsageError, interruptible
from infopt.events import Event, Listener, ignore
from infopt.evidence.data import DataSource
from infopt.evidence.shapes import Given as Shapes
from infopt.evidence.shapes import as_shapes
from infopt.importers import ImportOptions, import_model
from infopt.pipeline import Pipeline, telling
from infopt.presets import HALVES, pipeline_for
from infopt.quant import calibration_file
from infopt.recorded import ENDING, Calibrated
from infopt.target import DEFAULT_TARGET, parse_target


def calibrate(
    source: object,
    output: str | os.PathLike[str] | None = None,
    *,
    data: DataSource | None = None,
    target: str = DEFAULT_TARGET,
    precision: str = "int8",
    pipeline: str | Pipeline | None = None,
    scheme: str | Mapping[str, object] | None = None,
    shapes: Shapes = (),
    synthetic_calibration: bool = False,
    continue_from: str | os.PathLike[str] | None = None,
    shard: bool = False,
    seed: int = 0,
    example_inputs: Any = None,
    dynamic_shapes: Mapping[str, Mapping[int, str]] | None = None,
    task: str | None = None,
    trust_remote_code: bool = False,
    on_event: Listener = ignore,
) -> Calibrated:
    """Observe a model on data, and keep that in a file for ``infopt.optimize(calibration=…)``.

    The pipeline runs as far as its last ``calibrate``. What there is to observe at a later one
    depends on what was observed at those before, on all of the data: a shard is observed at one of
    them, the next, and all shards are merged before they go on from there.

    Args:
        source: A model, as for :func:`infopt.optimize`.
        output: The file to write; by default the source's name with ``.calibration.npz``, here.
        data: Real inputs, all of them or a shard: an ``.npz`` file, a folder of them,
            ``module:function``, or an iterable of dictionaries.
        target: What the engine will be compiled for.
        precision: Of the engine.
        pipeline: The passes of the engine, where it is not to have those of the preset.
        scheme: How the engine will be quantized, where not as in the preset.
        shapes: Sizes of made-up inputs.
        synthetic_calibration: Whether to observe made-up inputs where there is no data.
        continue_from: A file whose calibrations are taken as they are; the data is for those that
            it does not hold.
        shard: Whether ``data`` is one of several parts.
        seed: Of made-up inputs.
        example_inputs: For a torch module: arguments of one call.
        dynamic_shapes: For a torch module: input name → {axis: name of the dimension}.
        task: For Hugging Face: what the model does.
        trust_remote_code: Whether code in a Hugging Face directory may be run.
        on_event: Told of every step.

    Returns:
        What was observed.

    Raises:
        CalibrationError: Nothing is asked for, or ``continue_from`` is damaged.
        Interrupted: The user stopped it; the same call continues.
        ModelError: The source cannot become a valid model.
        OutputError: ``output`` is there, and something else than a calibration.
        UsageError: An argument is wrong, or there is no data.
    """
    backend = backend_for(parse_target(target))
    passes = pipeline_for(backend, precision, pipeline, scheme, data=True)
    if not passes.calibrates():
        raise UsageError(
            f"nothing is to be observed for {precision}: its pipeline has no calibrate; "
            "choose the precision that the engine is to have, or a --pipeline that has one"
        )
    given = () if continue_from is None else calibration_file.load(Path(continue_from))
    sizes = as_shapes(shapes)
    data = list(data) if isinstance(data, Iterator) else data  # it is read more than once
    wishes = ImportOptions(example_inputs, dynamic_shapes, task, trust_remote_code)
    destination = record.destination(output, source, ENDING)
    calibration_file.check_output(destination)

    with interruptible(), engines.room_beside(destination) as scratch:
        on_event(Event("import", record.name(source)))
        model = import_model(source, wishes).model
        observe = calibrator(
            model,
            backend,
            scratch,
            shapes=sizes,
            data=data,
            synthetic=synthetic_calibration or precision in HALVES,
            seed=seed,
            kept=destination.with_name(f"{destination.name}{UNFINISHED}"),
            given=given,
            shard=shard,
            tell=on_event,
        )
        with contextlib.suppress(Enough):
            passes.run(
                model,
                steps=passes.observing(),
                progress=telling(passes, on_event),
                observe=observe,
            )
        if not observe.found:
            raise CalibrationError(
                f"{record.name(source)} holds nothing that {precision} asks about; "
                "infopt optimize needs no calibration for it"
            )
        on_event(Event("write", str(destination)))
        calibration_file.save(observe.found, destination)
        observe.forget()
        return Calibrated(destination, observe.found)


def merge_calibrations(
    files: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]
) -> Calibrated:
    """Merge files of :func:`calibrate` that were observed on different parts of the data.

    The result is what one run on all of the data observes: exactly for ranges, histograms and
    means; second moments add floats, whose rounding depends on the order.

    Args:
        files: At least two, of the same model at the same place of the pipeline.
        output: The file to write.

    Raises:
        CalibrationError: One is damaged, or they are of different models or of the same data.
        OutputError: ``output`` is there, and something else than a calibration.
        UsageError: There are fewer than two.
    """
    if len(files) < 2:
        raise UsageError("merging takes two calibrations or more")
    destination = Path(output)
    calibration_file.check_output(destination)
    with interruptible():
        stages, left_out = calibration_file.merged([Path(file) for file in files])
        calibration_file.save(stages, destination)
    return Calibrated(destination, stages, left_out)
