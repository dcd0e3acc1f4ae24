"""What a model or an engine is: its face, its operators, and what one run of it costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from infopt import engine as engine_
from infopt import fusions, record
from infopt.engine import Engine, TensorSpec
from infopt.errors import ShapeError
from infopt.evidence import shapes as shapes_
from infopt.importers import forget_placeholder_dimensions, import_model, onnx_file
from infopt.importers.base import ImportOptions
from infopt.importers.sniff import sniff
from infopt.ir import files, queries
from infopt.ir.cost import Cost, cost
from infopt.pipeline import Pipeline
from infopt.presets import cleanup, raising


@dataclasses.dataclass(frozen=True)
class Inspection:
    """All that ``infopt inspect`` tells."""

    name: str
    kind: str
    """``engine``, ``onnx``, ``huggingface`` and so on: what the source turned out to be."""
    model: ir.Model
    """The model as it stands in the source; other frameworks' models as they are exported."""
    producer: str
    ir_version: int
    opsets: dict[str, int]
    """Domain → version; the standard domain is ``ai.onnx``."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    nodes: int
    """All nodes but constants, those of subgraphs and functions included."""
    operators: dict[str, int]
    """How often each operator occurs, most frequent first."""
    cost: Cost | None
    """What one run costs; ``None`` where the model does not fit the default sizes."""
    cost_unknown: str
    """Why there is no cost; empty where there is one."""
    engine: Engine | None
    """The engine and its manifest, where the source is one."""


def inspect(
    source: object,
    *,
    shapes: shapes_.Shapes | None = None,
    import_options: ImportOptions | None = None,
) -> Inspection:
    """Look into a model or an engine without changing or running it.

    Args:
        source: An engine directory, or whatever :func:`infopt.optimize` takes.
        shapes: Sizes of inputs at which to count; of a range the upper end.
        import_options: What is to be known beside a source of another framework.

    Raises:
        EngineError: The engine is damaged.
        ModelError: The source cannot be read.
        UsageError: ``shapes`` contradicts the model.
        ShapeError: The model is inconsistent at the sizes of ``shapes``.
    """
    kind = sniff(source)
    engine = engine_.open_engine(Path(str(source))) if kind == "engine" else None
    model = _model(source, kind, engine, import_options)
    counted, unknown = _cost(model, shapes or {})
    return Inspection(
        name=record.name(source),
        kind=kind,
        model=model,
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        ir_version=model.ir_version,
        opsets={domain or "ai.onnx": v for domain, v in model.graph.opset_imports.items()},
        inputs=tuple(record.spec(v) for v in model.graph.inputs if not v.is_initializer()),
        outputs=tuple(map(record.spec, model.graph.outputs)),
        nodes=queries.count_nodes(model),
        operators=dict(queries.count_operators(model).most_common()),
        cost=counted,
        cost_unknown=unknown,
        engine=engine,
    )


@dataclasses.dataclass(frozen=True)
class FusionInspection:
    """All that ``infopt inspect --fusions`` tells."""

    name: str
    nodes_before: int
    """Nodes of the model as it was imported, constants not counted."""
    nodes_after: int
    """Nodes after clean-up and raising."""
    fusions: fusions.Fusions


def inspect_fusions(
    source: object,
    *,
    expect: Mapping[str, int] | None = None,
    import_options: ImportOptions | None = None,
) -> FusionInspection:
    """Clean and raise a copy of a model, and look at what raising finds and misses.

    Args:
        source: An engine directory, or whatever :func:`infopt.optimize` takes.
        expect: Standard operator → how many there have to be at least.
        import_options: What is to be known beside a source of another framework.

    Raises:
        EngineError: The engine is damaged.
        ModelError: The source cannot be read.
        UsageError: ``expect`` names no standard operator.
    """
    expected = fusions.check_expected(expect)
    inside = source
    if sniff(source) == "engine":
        inside = engine_.open_engine(Path(str(source))).file(files.MODEL_FILE)
    model = import_model(inside, import_options).model
    before = queries.count_nodes(model)
    _, found = fusions.run(Pipeline((*cleanup(), *raising())), model, expected=expected)
    return FusionInspection(record.name(source), before, queries.count_nodes(model), found)


def _model(
    source: object, kind: str, engine: Engine | None, options: ImportOptions | None
) -> ir.Model:
    if engine is not None:
        return files.read_onnx(engine.file(files.MODEL_FILE))
    if kind == "onnx":
        return onnx_file.import_file(Path(str(source))).model
    if kind == "onnx-text":
        return onnx_file.import_text(Path(str(source))).model
    return import_model(source, options).model


def _cost(model: ir.Model, shapes: shapes_.Shapes) -> tuple[Cost | None, str]:
    model = model.clone()
    forget_placeholder_dimensions(model)
    bound = shapes_.bind(model.graph.inputs, shapes)
    sizes = {shapes_.label(dim): high for dim, (_, high) in bound.items()}
    try:
        return cost(model, sizes), ""
    except ShapeError as error:
        if shapes:
            raise
        return None, str(error)
