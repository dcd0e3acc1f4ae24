"""Comparing two models or engines: their outputs, and what is inside."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from infopt import provenance, record
from infopt.backends import backend_for
from infopt.backends.base import RunOptions
from infopt.errors import UsageError, interruptible
from infopt.events import Event, Listener, ignore
from infopt.evidence.data import DataSource
from infopt.evidence.equivalence import Equivalence
from infopt.evidence.shapes import Given as Shapes
from infopt.evidence.shapes import as_shapes
from infopt.importers import Imported, import_model
from infopt.layerwise.comparing import LayerComparison, between
from infopt.reports import page
from infopt.reports.pages import comparison_page
from infopt.signatures import KeyFile
from infopt.subjects import model_file, open_session, opened
from infopt.target import DEFAULT_TARGET, parse_target
from infopt.verification import budget
from infopt.witness import Witness, call_witness


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two models beside each other: what they return, and where inside they part ways."""

    candidate: str
    reference: str
    outputs: Equivalence
    """Of the candidate as it runs."""
    layers: LayerComparison
    """Of what both say, the runtime's optimizations off."""

    @property
    def only_the_runtime(self) -> bool:
        """Whether outputs differ though nothing inside does: the runtime's own optimizations."""
        inside = bool(self.layers.tensors) and self.layers.first is None
        return not self.outputs.holds and inside

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; infinite values become strings there."""
        return {
            "candidate": self.candidate,
            "reference_name": self.reference,
            **self.outputs.as_dict(),
            "per_layer": self.layers.as_dict(),
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }


def compare(
    candidate: object,
    reference: object,
    *,
    shapes: Shapes = (),
    data: DataSource | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    trusted: Sequence[KeyFile] = (),
) -> Equivalence:
    """Compare two models or engines on the same inputs.

    Args:
        candidate: An engine directory, or anything that can be imported.
        reference: The same; what is right. It runs with the runtime's optimizations off.
        shapes: Sizes, or ranges of sizes, of dynamic dimensions.
        data: Real inputs; by default synthetic ones.
        seed: Of synthetic inputs.
        tolerance: The largest relative error, ``max|a-b| / max|b|``, of an output.
        trusted: Files with public keys; if there are any, one of them has to have signed an
            engine.

    Raises:
        UsageError: ``shapes`` or ``data`` do not fit.
        ModelError: One of both is no valid model.
        EngineError: One of both is a damaged engine.
    """
    allowed = budget("fp32", tolerance)
    with _room() as scratch:
        session = open_session(candidate, scratch / "candidate", RunOptions(), trusted)
        _, witness = _witness(reference, scratch, shapes, data, seed, trusted)
        return witness.examine(session, allowed)


def compare_layers(
    candidate: object,
    reference: object,
    *,
    shapes: Shapes = (),
    data: DataSource | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    threads: int | None = None,
    required: bool = True,
    trusted: Sequence[KeyFile] = (),
    report: str | os.PathLike[str] | None = None,
    on_event: Listener = ignore,
) -> Comparison:
    """Compare two models or engines on the same inputs, inside as well, and see where they part.

    Args:
        candidate: An engine directory, or anything that can be imported.
        reference: The same; what is right.
        shapes: Sizes, or ranges of sizes, of dynamic dimensions.
        data: Real inputs; by default synthetic ones.
        seed: Of synthetic inputs.
        tolerance: The largest relative error, ``max|a-b| / max|b|``, of an output and of any
            value inside.
        threads: Threads of one operator.
        required: Whether it is an error if nothing inside can be matched; else the outputs alone
            are compared, and it is said why.
        trusted: Files with public keys; if there are any, one of them has to have signed an
            engine.
        report: An HTML file to write.
        on_event: Told of every step.

    Raises:
        UsageError: ``shapes`` or ``data`` do not fit, or nothing inside can be matched and that is
            required.
        ModelError: One of both is no valid model.
        EngineError: One of both is a damaged engine.
    """
    allowed, options = budget("fp32", tolerance), RunOptions(threads=threads)
    if report is not None:
        page.check(Path(report))
    with _room() as scratch:
        on_event(Event("import", record.name(candidate)))
        session, ours, backend = opened(candidate, scratch / "candidate", options, trusted)
        on_event(Event("import", record.name(reference)))
        imported, witness = _witness(reference, scratch, shapes, data, seed, trusted)
        on_event(Event("verify", "outputs"))
        outputs = witness.examine(session, allowed)
        del session
        try:
            layers = between(
                ours.model,
                imported.model,
                witness.samples,
                backend=backend,
                tolerance=allowed.tolerance,
                options=options,
                tell=on_event,
            )
        except UsageError as error:  # nothing inside can be matched
            if required:
                raise
            layers = LayerComparison((), 0, (), allowed.tolerance, (0, 0), (str(error),))
    found = Comparison(record.name(candidate), record.name(reference), outputs, layers)
    if report is not None:
        page.write(comparison_page(record.plain(found.as_dict())), Path(report))
    return found


@contextlib.contextmanager
def _room() -> Iterator[Path]:
    with interruptible(), tempfile.TemporaryDirectory(prefix="infopt-") as scratch:
        yield Path(scratch)


def _witness(
    reference: object,
    scratch: Path,
    shapes: Shapes,
    data: DataSource | None,
    seed: int,
    trusted: Sequence[KeyFile],
) -> tuple[Imported, Witness]:
    room = scratch / "reference"
    room.mkdir()
    imported = import_model(model_file(reference, trusted))
    backend = backend_for(parse_target(DEFAULT_TARGET))
    sizes = as_shapes(shapes)
    return imported, call_witness(imported, backend, room, shapes=sizes, data=data, seed=seed)
