"""ONNX files in and out: weights stay memory-mapped, hostile files end in a clear error."""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from infopt.errors import ExternalDataError, SourceError
from infopt.ir import queries, wellformed, wire

MODEL_FILE = "model.onnx"
DATA_FILE = "model.data"

_LONGEST_NAME = 200


def read_onnx(path: Path) -> ir.Model:
    """The model in an ONNX file, its weights (embedded or external) mapped, not loaded.

    Args:
        path: A serialized ``ModelProto``. External data is looked for beside it.

    Raises:
        SourceError: The file is missing, truncated, or not an ONNX model.
        ExternalDataError: External data is missing, too short, or outside the directory.
    """
    here = secrets.token_hex(16)  # no file can guess the name under which it refers to itself
    proto = onnx.ModelProto()
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise SourceError("it is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
                proto.ParseFromString(wire.without_payloads(buffer, here))
    except FileNotFoundError:
        raise SourceError(f"there is no file {path}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    except (SourceError, DecodeError) as error:
        reason = str(error) if isinstance(error, SourceError) else "its fields do not parse"
        raise SourceError(
            f"{path} is not an ONNX model: {reason}; download or export it again"
        ) from None
    try:
        model = from_proto(proto)
    except SourceError as error:
        raise SourceError(f"{path} is not a valid ONNX model: {error}") from None
    for tensor in tensors(model):
        if isinstance(tensor, ir.ExternalTensor):
            _place(tensor, path, here)
    return model


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """The IR of a protobuf.

    Raises:
        SourceError: It is no valid model: no graph, undefined values, nonsense in its fields.
    """
    if not proto.HasField("graph"):
        raise SourceError("it has no graph")
    wellformed.check_proto(proto)
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # whatever a hostile file makes the deserializer say
        cause = error.__cause__ or error
        raise SourceError(
            str(cause).strip().splitlines()[0] if str(cause) else repr(cause)
        ) from None
    wellformed.check_definitions(model)
    return model


def tensors(model: ir.Model) -> Iterator[ir.TensorProtocol]:
    """Every tensor of the model: initializers and attributes, everywhere."""
    for graph in queries.graphs(model):
        if isinstance(graph, ir.Graph):
            for value in graph.initializers.values():
                if value.const_value is not None:
                    yield value.const_value
        for node in graph:
            for attr in node.attributes.values():
                if attr.is_ref():
                    continue
                if attr.type is ir.AttributeType.TENSOR:
                    yield attr.as_tensor()
                elif attr.type is ir.AttributeType.TENSORS:
                    yield from attr.as_tensors()


def _place(tensor: ir.ExternalTensor, path: Path, here: str) -> None:
    """Say where the data of ``tensor`` lies, after making sure that it may lie there."""
    # Anything that the user may open is fine for the file itself, not for what it refers to.
    file = path if tensor.location == here else _contained(tensor, path.parent)
    tensor._location = str(file.resolve())  # holds wherever the tensor goes
    size = tensor.nbytes
    length = size if tensor.length is None else tensor.length
    offset = tensor.offset or 0
    if length != size:
        raise ExternalDataError(
            f"tensor {tensor.name!r} of {path} has {length} bytes of data, "
            f"but its type and shape need {size}; export the model again"
        )
    if offset < 0 or offset + size > file.stat().st_size:
        raise ExternalDataError(
            f"tensor {tensor.name!r} needs bytes {offset} to {offset + size} of {file}, "
            f"which has only {file.stat().st_size}; the file is truncated, download it again"
        )


def _contained(tensor: ir.ExternalTensor, directory: Path) -> Path:
    """The file of ``tensor``, if it lies inside ``directory`` after following links."""
    location = str(tensor.location)
    file = directory / location
    shown = location if len(location) <= _LONGEST_NAME else f"{location[:_LONGEST_NAME]}…"
    what = f"tensor {tensor.name!r} refers to external data {shown!r}"
    try:
        if os.path.isabs(location) or not file.resolve().is_relative_to(directory.resolve()):
            raise ExternalDataError(
                f"{what}, which leaves the model's directory {directory}; infopt does not follow "
                "it. Put the data beside the model"
            )
        exists = file.is_file()
    except (OSError, ValueError):  # too long, a loop of links, a null character
        location = ""
    if not location:
        raise ExternalDataError(f"{what}, which is no file name; export the model again")
    if not exists:
        raise ExternalDataError(f"{what}, but there is no file {file}; put it beside the model")
    return file


def write_onnx(model: ir.Model, directory: Path) -> list[Path]:
    """Write ``model.onnx`` and, where there are weights, ``model.data`` into ``directory``.

    Weights are streamed from where they lie. The model is unchanged, save that large tensor
    attributes are taken into memory.

    Returns:
        The files written.
    """
    for node in queries.nodes(model):
        for attr in list(node.attributes.values()):
            if attr.type is ir.AttributeType.TENSOR and not attr.is_ref():
                tensor = attr.as_tensor()
                if isinstance(tensor, ir.ExternalTensor):
                    loaded = ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)
                    node.attributes[attr.name] = ir.AttrTensor(attr.name, loaded)
    ir.save(model, directory / MODEL_FILE, external_data=DATA_FILE)
    return [path for name in (MODEL_FILE, DATA_FILE) if (path := directory / name).exists()]
