"""Small questions about a model that passes and reports ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TypeVar, cast

import numpy as np
import onnx_ir as ir

GraphLike = ir.Graph | ir.Function
T = TypeVar("T")


def roots(model: ir.Model) -> Iterator[GraphLike]:
    """The main graph, then the body of each function."""
    yield model.graph
    yield from model.functions.values()


def graphs(model: ir.Model) -> Iterator[GraphLike]:
    """The main graph and the functions, each followed by all graphs nested in it."""
    for root in roots(model):
        yield root
        yield from root.subgraphs()


def nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node of the model: main graph, functions, and all graphs nested in them."""
    for root in roots(model):
        yield from root.all_nodes()


def is_standard(node: ir.Node, *op_types: str) -> bool:
    """Whether ``node`` is one of these operators of the standard ONNX domain."""
    return node.domain == "" and node.op_type in op_types


def subgraphs_of(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs that are attributes of ``node`` itself (the branches of an If, a Loop's body)."""
    for attr in node.attributes.values():
        if attr.type is ir.AttributeType.GRAPH:
            yield attr.as_graph()
        elif attr.type is ir.AttributeType.GRAPHS:
            yield from attr.as_graphs()


def constant(value: ir.Value | None) -> np.ndarray | None:
    """The constant that ``value`` always has, or ``None``.

    It is constant if it is an initializer that no caller can override, or the output of a
    ``Constant`` node. The array may be memory-mapped; do not write to it.
    """
    tensor = constant_tensor(value)
    return None if tensor is None else tensor.numpy()


def constant_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """Like :func:`constant`, without reading the data."""
    if value is None:
        return None
    if value.is_initializer():
        return None if value.is_graph_input() else value.const_value
    producer = value.producer()
    if producer is not None and is_standard(producer, "Constant"):
        if "sparse_value" in producer.attributes:
            return None
        if "value" in producer.attributes and not producer.attributes["value"].is_ref():
            return producer.attributes["value"].as_tensor()  # as it is: reading names nothing
        return ir.convenience.get_const_tensor(value)
    return None


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape of ``value`` if every dimension is a known number, else ``None``."""
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    return value.shape.numpy()


def attribute(node: ir.Node, name: str, default: T) -> T:
    """The value of an attribute of ``node``, or ``default`` where it is not set."""
    attr = node.attributes.get(name)
    return default if attr is None else cast(T, attr.value)


def count_operators(model: ir.Model) -> Counter[str]:
    """How often each operator occurs, by :func:`operator_name`."""
    return Counter(operator_name(node) for node in nodes(model))


def operator_name(node: ir.Node) -> str:
    """``Name`` for an operator of the standard domain, else ``domain::Name``."""
    return node.op_type if node.domain == "" else f"{node.domain}::{node.op_type}"


def count_nodes(model: ir.Model) -> int:
    """How many nodes the model has, everywhere, ``Constant`` nodes not counted."""
    return sum(1 for node in nodes(model) if not is_standard(node, "Constant"))
