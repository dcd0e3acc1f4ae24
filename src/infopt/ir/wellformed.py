"""What a model must be before onnx's native code sees it, which crashes on some of the rest."""

from __future__ import annotations

import math

import onnx
import onnx_ir as ir
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from infopt.errors import SourceError
from infopt.ir import queries

_CARRIERS = {
    onnx.AttributeProto.TENSOR: "t",
    onnx.AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    onnx.AttributeProto.GRAPH: "g",
    onnx.AttributeProto.TYPE_PROTO: "tp",
}


def check_proto(message: Message) -> None:
    """Refuse what protobuf lets pass and nobody expects, in ``message`` and all inside it.

    Text that is not UTF-8, tensors that contradict themselves, attributes without a value, and
    functions that take a graph as an attribute, which the IR cannot express.

    Raises:
        SourceError: Something of that is in it.
    """
    if isinstance(message, onnx.TensorProto):
        _check_tensor(message)
    if isinstance(message, onnx.AttributeProto):
        carrier = _CARRIERS.get(message.type)
        if message.ref_attr_name:
            if message.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
                raise SourceError(f"attribute {message.name!r} stands for a graph in a function")
        elif carrier is not None and not message.HasField(carrier):
            raise SourceError(f"attribute {message.name!r} has no value")
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for child in value if field.is_repeated else (value,):
                check_proto(child)
        elif field.type == FieldDescriptor.TYPE_STRING:
            for text in value if field.is_repeated else (value,):
                if not isinstance(text, str):
                    raise SourceError(f"{field.full_name} is not UTF-8 text: {text[:80]!r}")


_TYPED_FIELDS = {
    ir.DataType.FLOAT: "float_data",
    ir.DataType.COMPLEX64: "float_data",
    ir.DataType.DOUBLE: "double_data",
    ir.DataType.COMPLEX128: "double_data",
    ir.DataType.INT64: "int64_data",
    ir.DataType.UINT32: "uint64_data",
    ir.DataType.UINT64: "uint64_data",
    ir.DataType.STRING: "string_data",
}
"""Where a tensor's elements are, if not in raw_data; for all other types in int32_data."""


def _check_tensor(tensor: onnx.TensorProto) -> None:
    """Refuse a tensor whose data is not as much as its type and shape need."""
    what = f"tensor {tensor.name!r}"
    if tensor.data_type == onnx.TensorProto.UNDEFINED:
        raise SourceError(f"{what} has no element type")
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        raise SourceError(f"{what} has the unknown element type {tensor.data_type}") from None
    if any(dim < 0 for dim in tensor.dims):
        raise SourceError(f"{what} has the impossible shape {list(tensor.dims)}")
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return  # the size of the file is looked at when it is opened
    count = math.prod(tensor.dims)
    if tensor.HasField("raw_data") and dtype is ir.DataType.STRING:
        raise SourceError(f"{what} has strings as raw bytes")
    if tensor.HasField("raw_data"):
        needed, found, unit = math.ceil(count * dtype.itemsize), len(tensor.raw_data), "bytes"
    else:
        field = _TYPED_FIELDS.get(dtype, "int32_data")
        complex_ = dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128)
        small = dtype is not ir.DataType.STRING and dtype.itemsize < 1  # several to the byte
        needed = math.ceil(count * dtype.itemsize) if small else count * (2 if complex_ else 1)
        found, unit = len(getattr(tensor, field)), "elements"
    if needed != found:
        raise SourceError(f"{what} has {found} {unit}, its type and shape need {needed}")


def check_definitions(model: ir.Model) -> None:
    """Refuse values that nothing computes and inputs without a type.

    Raises:
        SourceError: There is one.
    """
    for value in model.graph.inputs:
        if value.dtype in (None, ir.DataType.UNDEFINED):
            raise SourceError(f"the input {value.name!r} has no type")
    for graph in queries.graphs(model):
        for node in graph:
            for value in filter(None, node.inputs):
                if not _is_defined(value):
                    where = f"node {node.name!r} ({node.op_type})" if node.name else node.op_type
                    raise SourceError(f"{where} reads {value.name!r}, which nothing computes")
        for value in graph.outputs:
            if not _is_defined(value):
                raise SourceError(f"nothing computes the output {value.name!r}")


def _is_defined(value: ir.Value) -> bool:
    return value.producer() is not None or value.is_graph_input() or value.is_initializer()
