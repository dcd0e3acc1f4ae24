"""What reports and manifests record of a model: its face, its sizes, where it came from."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from infopt import provenance
from infopt.engine import Manifest, TensorSpec
from infopt.importers import Imported
from infopt.ir import digest, files, queries
from infopt.pipeline import PassRun, Pipeline


def name(source: object) -> str:
    """What a person calls a source: its path or id, else what it is."""
    if isinstance(source, Imported):
        return source.name
    return str(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__


def destination(output: str | os.PathLike[str] | None, source: object, ending: str) -> Path:
    """Where to write: ``output``, or the source's name with another ending, here."""
    if output is not None:
        return Path(output)
    stem = Path(name(source)).resolve().stem  # `.` has a name, too
    return Path(f"{stem or 'model'}{ending}")


def origin(imported: Imported) -> dict[str, Any]:
    """Where a model came from: kind, name, digest, facts of the importer."""
    return {
        "kind": imported.kind,
        "name": imported.name,
        "digest": digest.model_digest(imported.model),
        **imported.details,
    }


def sizes(model: ir.Model) -> dict[str, int]:
    """How many nodes, and bytes of weights."""
    return {
        "nodes": queries.count_nodes(model),
        "weights": sum(tensor.nbytes for tensor in files.tensors(model)),
    }


def manifest(
    model: ir.Model,
    *,
    target: str,
    precision: str,
    pipeline: Pipeline,
    source: Mapping[str, Any],
    size_before: Mapping[str, int],
    operators_before: Mapping[str, int],
    trace: Iterable[PassRun],
    fusions: Mapping[str, Mapping[str, int]],
    build: Mapping[str, Any],
    evidence: Mapping[str, Any],
) -> Manifest:
    """The manifest of an engine that was made of ``model``, without the digests of its files."""
    return Manifest(
        target=target,
        source=source,
        model_digest=digest.model_digest(model),
        precision=precision,
        pipeline=str(pipeline),
        inputs=tuple(map(spec, model.graph.inputs)),
        outputs=tuple(map(spec, model.graph.outputs)),
        versions=provenance.versions(),
        hardware=provenance.hardware(),
        passes=tuple(dataclasses.asdict(run) for run in trace),
        operators=_operators(operators_before, queries.count_operators(model)),
        fusions=fusions,
        build=plain(build),
        evidence=plain(evidence),
        sizes={
            **{f"{what}_before": n for what, n in size_before.items()},
            **{f"{what}_after": n for what, n in sizes(model).items()},
        },
    )


def _operators(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Those of which there are most, before or after, first."""
    most = {name: max(before.get(name, 0), after.get(name, 0)) for name in {**before, **after}}
    return {
        name: {"before": before.get(name, 0), "after": after.get(name, 0)}
        for name in sorted(most, key=lambda name: (-most[name], name))
    }


def spec(value: ir.Value) -> TensorSpec:
    """Name, type and shape of an input or output."""
    return TensorSpec(
        name=value.name or "",
        dtype="unknown" if value.dtype is None else value.dtype.name.lower(),
        shape=None
        if value.shape is None
        else tuple(d if isinstance(d, int) else d.value for d in value.shape),
    )


def plain(value: Any) -> Any:
    """``value`` with what JSON lacks (infinities, NaN) as strings."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
