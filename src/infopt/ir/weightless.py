"""A model as a protobuf without its weights, for onnx's C++ functions.

Those functions take whole protobufs: with the weights inside that would copy gigabytes and
break at 2 GiB, and they never need the value of a large weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnx_ir as ir

from infopt.ir import queries

SMALL = 1024
"""Tensors up to so many bytes stay: shapes, axes and scales that inference reads."""


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """``model`` as a protobuf in which each large initializer is only a name, type and shape."""
    with _weights_put_aside(model):
        return ir.to_proto(model)


@contextmanager
def _weights_put_aside(model: ir.Model) -> Iterator[None]:
    aside: list[tuple[ir.Value, ir.TensorProtocol]] = []
    for graph in queries.graphs(model):
        if isinstance(graph, ir.Function):
            continue
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and (tensor.nbytes > SMALL or _external(tensor)):
                aside.append((value, tensor))
    try:
        for value, tensor in aside:
            value.const_value = _in_memory(tensor) if tensor.nbytes <= SMALL else _nowhere(tensor)
        yield
    finally:
        for value, tensor in aside:
            value.const_value = tensor


def _external(tensor: ir.TensorProtocol) -> bool:
    return isinstance(tensor, ir.ExternalTensor)


def _in_memory(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)


def _nowhere(tensor: ir.TensorProtocol) -> ir.ExternalTensor:
    """A tensor of the same type and shape whose data nobody will ask for."""
    return ir.ExternalTensor(
        location="weights",
        offset=0,
        length=tensor.nbytes,
        dtype=tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
    )
