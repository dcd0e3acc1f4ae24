"""Importers: any source → one ``onnx_ir.Model`` at infopt's opset, types and shapes inferred."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import onnx_ir as ir

from infopt.errors import InfoptError
from infopt.importers.base import Imported, ImportOptions
from infopt.importers.scopes import module_path
from infopt.importers.sniff import sniff
from infopt.ir import opset, queries, shapes

__all__ = ["ImportOptions", "Imported", "import_model"]


def import_model(source: object, options: ImportOptions | None = None) -> Imported:
    """Import any source.

    Args:
        source: The path of an ONNX file, a ``.pt2`` archive or a Hugging Face directory; a hub
            id; or an object: ``torch.nn.Module``, ``ExportedProgram``, ``onnx.ModelProto``,
            ``onnx_ir.Model``. What it is, is told from its content. What was imported before is
            returned as it is.
        options: What the user says beside.

    Returns:
        The model at opset :data:`infopt.ir.opset.OPSET`, every node named, types and shapes
        inferred, and what is known of its origin.

    Raises:
        ModelError: The source cannot become a valid model.
        ImportFailed: Another library's exporter gave up.
        UsageError: ``options`` do not fit the source.
    """
    if isinstance(source, Imported):
        return source
    imported = _import(source, options or ImportOptions())
    imported.details["opset"] = str(opset.opset_of(imported.model))
    imported.model = normalize(imported.model, imported.name)
    return imported


def _import(source: object, options: ImportOptions) -> Imported:
    from infopt.importers import onnx_file

    kind = sniff(source)
    if kind == "onnx":
        return onnx_file.import_file(Path(str(source)))
    if kind == "onnx-text":
        return onnx_file.import_text(Path(str(source)))
    if kind == "onnx-proto":
        return onnx_file.import_proto(cast(Any, source))
    if kind == "ir":
        return onnx_file.import_ir(cast(ir.Model, source))
    # Both need torch, which takes seconds to load.
    if kind == "huggingface":
        from infopt.importers import huggingface

        return huggingface.import_huggingface(str(source), options)
    from infopt.importers import torch_module

    return torch_module.import_torch(source, kind, options)


def normalize(model: ir.Model, name: str) -> ir.Model:
    """``model`` in the form in which passes meet it.

    Raises:
        OpsetError: An operator is unknown or cannot be converted.
        ShapeError: Types or shapes contradict each other.
    """
    try:
        _name_nodes(model)
        forget_placeholder_dimensions(model)
        model = opset.convert_opset(model)
        _name_nodes(model)  # the conversion may have added some,
        forget_placeholder_dimensions(model)  # and invented names of dimensions
        shapes.infer_shapes(model)
    except InfoptError as error:
        raise type(error)(f"{name}: {error}") from None
    return model


def _name_nodes(model: ir.Model) -> None:
    """Give every node a name that occurs once, so that messages can point at it.

    The module that a node comes from goes in front, where it is known: names stay when passes
    make new nodes of old ones, and metadata does not survive the conversion of the opset.
    """
    taken: set[str] = set()
    for index, node in enumerate(queries.nodes(model)):
        name = node.name or f"{node.op_type}_{index}"
        path = module_path(node)
        if path and not name.startswith(f"{path}/"):
            name = f"{path}/{name}"
        while name in taken:
            name = f"{name}_{index}"
        taken.add(name)
        node.name = name


_NAME = re.compile(r"(?!unk__\d)[A-Za-z_][\w.\-]*")


def forget_placeholder_dimensions(model: ir.Model) -> None:
    """Treat dimensions called ``?`` or ``-1`` as what they mean: unknown.

    Some exporters write the same placeholder for different dimensions, which would make them
    equal by name.
    """
    for graph in queries.graphs(model):
        values = [*graph.inputs, *graph.outputs]
        values += [output for node in graph for output in node.outputs]
        for value in values:
            if value.shape is not None and any(map(_placeholder, value.shape)):
                value.shape = ir.Shape([None if _placeholder(d) else d for d in value.shape])


def _placeholder(dim: int | ir.SymbolicDim) -> bool:
    if isinstance(dim, int):
        return dim < 0
    return dim.value is not None and not _NAME.fullmatch(dim.value)
