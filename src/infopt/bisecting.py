"""Finding out which pass, and which of its changes, breaks a model."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infopt import record
from infopt.backends import backend_for
from infopt.backends.base import RunOptions
from infopt.calibration import Calibrator, calibrator
from infopt.errors import interruptible
from infopt.events import Event, Listener, ignore
from infopt.evidence.data import DataSource
from infopt.evidence.equivalence import Equivalence
from infopt.evidence.extents import profiles_of
from infopt.evidence.shapes import Given as Shapes
from infopt.evidence.shapes import as_shapes
from infopt.importers import ImportOptions, import_model
from infopt.pipeline import Pipeline, telling
from infopt.presets import HALVES, pipeline_for
from infopt.recorded import Recorded, recorded
from infopt.target import DEFAULT_TARGET, parse_target
from infopt.verification import Culprit, budget, examine_payload, find_culprit
from infopt.witness import call_witness


@dataclasses.dataclass(frozen=True)
class Bisection:
    """Whether a pipeline breaks a model, and what of it does."""

    equivalence: Equivalence
    """What comes out, compared with the model as it came."""
    ran: str
    """Where that ran, in words."""
    pipeline: str
    culprit: Culprit | None
    """``None`` where nothing is broken."""
    tried: tuple[str, ...]
    """What the search has tried, in order."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "pipeline": self.pipeline,
            "culprit": None if self.culprit is None else dataclasses.asdict(self.culprit),
            "tried": self.tried,
            "equivalence": {**self.equivalence.as_dict(), "ran": self.ran},
        }


def bisect(
    source: object,
    *,
    target: str = DEFAULT_TARGET,
    precision: str = "fp32",
    pipeline: str | Pipeline | None = None,
    scheme: str | Mapping[str, object] | None = None,
    shapes: Shapes = (),
    data: DataSource | None = None,
    tolerance: float | None = None,
    least_sqnr: float | None = None,
    synthetic_calibration: bool = False,
    calibration: str | None = None,
    seed: int = 0,
    threads: int | None = None,
    provider_options: Mapping[str, str] | None = None,
    example_inputs: Any = None,
    dynamic_shapes: Mapping[str, Mapping[int, str]] | None = None,
    task: str | None = None,
    trust_remote_code: bool = False,
    on_event: Listener = ignore,
) -> Bisection:
    """Compile a model as :func:`optimize` does, and find what breaks it, if anything does.

    The pipeline is replayed with fewer and fewer of its changes until one of them makes the
    difference. Nothing is written.

    Args:
        source: As for :func:`optimize`, and so are all others.
        target: What to compile for.
        precision: What to compute in.
        pipeline: The passes to search in instead of the preset for both.
        scheme: Options of its quantizing passes.
        shapes: Sizes, or ranges of sizes, at which to compare.
        data: Real inputs.
        tolerance: The largest relative error of an output that is not called broken.
        least_sqnr: The least signal-to-noise ratio, in decibels.
        synthetic_calibration: Whether to calibrate on made-up inputs where there is no data.
        calibration: A file of :func:`calibrate`.
        seed: Of synthetic inputs.
        threads: Threads of one operator.
        provider_options: The runtime's own options for the device.
        example_inputs: For a torch module: arguments of one call.
        dynamic_shapes: For a torch module: input name → {axis: name of the dimension}.
        task: For Hugging Face: what the model does.
        trust_remote_code: Whether code in a Hugging Face directory may be run.
        on_event: Told of every step.

    Raises:
        ModelError: The source cannot become a valid model.
        UsageError: An argument is wrong, or contradicts the model.
        UnavailableError: The runtime that is needed for comparing is not installed.
        CompileError: The target's runtime refuses the model.
    """
    backend = backend_for(parse_target(target))
    seen = data is not None or synthetic_calibration or calibration is not None
    passes = pipeline_for(backend, precision, pipeline, scheme, data=seen)
    allowed, sizes = budget(precision, tolerance, least_sqnr), as_shapes(shapes)
    observe: Recorded | Calibrator | None = recorded(
        calibration, passes, synthetic=synthetic_calibration
    )
    options = RunOptions(threads=threads, provider_options=dict(provider_options or {}))
    backend.require(options)
    data = list(data) if isinstance(data, Iterator) else data  # it is read more than once
    wishes = ImportOptions(example_inputs, dynamic_shapes, task, trust_remote_code)
    tried: list[str] = []

    def trying(what: str) -> None:
        tried.append(what)
        on_event(Event("bisect", what))

    with interruptible(), tempfile.TemporaryDirectory(prefix="infopt-") as room:
        scratch, payload = Path(room) / "scratch", Path(room) / "payload"
        scratch.mkdir()
        payload.mkdir()
        on_event(Event("import", record.name(source)))
        imported = import_model(source, wishes)
        model = imported.model
        extents = profiles_of(model, shapes, (), data) if backend.bounded else ()
        on_event(Event("verify", "the original"))
        witness = call_witness(imported, backend, scratch, shapes=sizes, data=data, seed=seed)
        if observe is None and passes.calibrates():
            observe = calibrator(
                model,
                backend,
                scratch,
                shapes=sizes,
                data=data,
                synthetic=synthetic_calibration or precision in HALVES,
                seed=seed,
                kept=None,
                tell=on_event,
            )
        passes.run(model, progress=telling(passes, on_event), observe=observe)
        on_event(Event("compile", backend.target.name))
        backend.compile(model, payload)
        backend.build(payload, extents, options, scratch, on_event)
        found, ran = examine_payload(witness, backend, payload, options, allowed, on_event)
        culprit = None
        if not found.holds:
            culprit = find_culprit(
                passes,
                backend,
                witness,
                witness.samples[found.failing[0]],
                allowed=allowed,
                observe=observe,
                scratch=scratch,
                progress=trying,
            )
        return Bisection(found, ran, str(passes), culprit, tuple(tried))
