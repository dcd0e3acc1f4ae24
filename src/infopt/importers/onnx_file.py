"""ONNX files, protobufs and IR models."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from infopt.errors import SourceError
from infopt.importers.base import Imported
from infopt.ir import files


def import_file(path: Path) -> Imported:
    """A binary ONNX file; its weights stay mapped.

    Raises:
        SourceError: The file is not an ONNX model.
        ExternalDataError: Its external data cannot be used.
    """
    return _imported(files.read_onnx(path), path.name, path)


def import_text(path: Path) -> Imported:
    """A file in ONNX's text form (ONNX specification, "Syntax").

    Raises:
        SourceError: The text does not parse.
    """
    try:
        proto = onnx.parser.parse_model(path.read_text(encoding="utf-8"))
    except (onnx.parser.ParseError, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is not ONNX text: {error}") from None
    return _imported(files.from_proto(proto), path.name)


def import_proto(proto: onnx.ModelProto) -> Imported:
    """A protobuf in memory, with its weights inside."""
    return _imported(files.from_proto(proto), proto.graph.name or "ModelProto")


def import_ir(model: ir.Model) -> Imported:
    """An IR model; it is cloned, the caller's stays as it is (the weights are shared)."""
    return _imported(model.clone(), model.graph.name or "Model")


def _imported(model: ir.Model, name: str, path: Path | None = None) -> Imported:
    details = {
        "producer": " ".join(filter(None, (model.producer_name, model.producer_version))),
    }
    return Imported(model, kind="onnx", name=name, path=path, details=details)
