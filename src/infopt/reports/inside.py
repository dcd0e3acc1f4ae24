"""What a report of an engine tells beyond its manifest: its layers, its nodes, its types."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import onnx_ir as ir

from infopt.backends.base import Backend, RunOptions
from infopt.errors import InfoptError
from infopt.events import Event, Listener
from infopt.evidence.equivalence import Budget
from infopt.ir.layers import Layers
from infopt.ir.products import products
from infopt.layerwise.comparing import between
from infopt.profiling import profiled
from infopt.sentences import NOT_MEASURED
from infopt.verification import TOLERANCE
from infopt.witness import Witness

_SECONDS = 2.0
"""Time budget of the profile's calls."""
_SAMPLES = 4
"""On so many samples the layers are compared."""


def look_inside(
    model: ir.Model,
    witness: Witness | None,
    backend: Backend,
    payload: Path,
    options: RunOptions,
    allowed: Budget,
    tell: Listener,
) -> dict[str, Any]:
    """The ``layers``, the ``profile`` and the ``precision`` of an engine, ready for JSON.

    What cannot be had is said in words; an engine does not fail for its report.

    Args:
        model: What was compiled.
        witness: The model as it came; ``None`` where nothing is verified.
        backend: Of the target.
        payload: What the backend has written.
        options: How to run it.
        allowed: How far outputs may be from the original.
        tell: Told of every step.
    """
    found: dict[str, Any] = {"precision": precision_map(model)}
    if witness is None:
        off = f"{NOT_MEASURED}: verification was switched off"
        return {**found, "layers": off, "profile": off}
    tell(Event("verify", "layer by layer"))
    try:
        found["layers"] = between(
            model,
            witness.model(),
            witness.samples[:_SAMPLES],
            backend=backend,
            tolerance=limit_inside(allowed),
            options=options,
        ).as_dict()
    except InfoptError as error:
        found["layers"] = f"{NOT_MEASURED}: {error}"
    tell(Event("measure", "node by node"))
    found["profile"] = _profile(model, witness, backend, payload, options)
    return found


def limit_inside(allowed: Budget) -> float:
    """How far a value inside may be off, relatively, where outputs may be as far as ``allowed``.

    Where these are judged by their noise alone, it is the share of noise that they may have.
    """
    if math.isfinite(allowed.tolerance):
        return allowed.tolerance
    return 10 ** (-allowed.least_sqnr / 20) if math.isfinite(allowed.least_sqnr) else TOLERANCE


def _profile(
    model: ir.Model, witness: Witness, backend: Backend, payload: Path, options: RunOptions
) -> dict[str, Any] | str:
    reason = backend.unavailable()
    if reason is not None:
        return f"{NOT_MEASURED}: {reason}"
    with tempfile.TemporaryDirectory(prefix="infopt-") as room:
        noting = dataclasses.replace(options, profile=Path(room))
        try:
            session = backend.load(payload, noting)
            sample = witness.samples[0]
            return profiled(session, model, sample, name="engine", seconds=_SECONDS).as_dict()
        except InfoptError as error:
            return f"{NOT_MEASURED}: {error}"


def precision_map(model: ir.Model) -> dict[str, dict[str, int]]:
    """Layer → type of weights → how many products; layers in order, ``""`` for none of them."""
    types = {node: kind for kind, nodes in products(model).items() for node in nodes}
    layers, found = Layers(model), dict[str, Counter[str]]()
    for node in model.graph.all_nodes():
        kind = types.get(node.name or node.op_type)
        if kind is not None:
            found.setdefault(layers.of(node.name or ""), Counter())[kind] += 1
    return {layer: dict(counts) for layer, counts in found.items()}
