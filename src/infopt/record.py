"""What reports and manifests record of a model: its face, its sizes, where it came from."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from infopt.engine import TensorSpec
from infopt.importers import Imported
from infopt.ir import digest, files, queries


def name(source: object) -> str:
    """What a person calls a source: its path or id, else what it is."""
    return str(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__


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
