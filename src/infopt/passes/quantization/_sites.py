"""Where integers can compute: the operators, and which of their inputs are what."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import input_at


@dataclasses.dataclass(frozen=True)
class Site:
    """An operator that can compute with integers."""

    node: ir.Node
    activations: tuple[int, ...]
    """Which inputs are computed at run time."""
    weights: int | None = None
    """Which input are the weights; ``None`` where there are none."""
    axis: int = 0
    """The axis of the weights that holds the output channels."""
    bias: int | None = None
    """Which input is a constant bias for each output channel."""
    output: ir.Value | None = None
    """What is quantized behind it: its output, or that of the activation function that follows."""
    into: ir.Node | None = None
    """The convolution that takes a sum in, of which only the other summand is quantized then."""

    @property
    def inputs(self) -> tuple[ir.Value, ...]:
        """The values that are computed at run time."""
        values = (self.node.inputs[index] for index in self.activations)
        return tuple(value for value in values if value is not None)


def site(node: ir.Node) -> Site | str | None:
    """What ``node`` offers; in words, why not; or ``None``: it is no such operator."""
    look = _OPERATORS.get(node.op_type) if node.domain == "" else None
    if look is None or any(attr.is_ref() for attr in node.attributes.values()):
        return None
    found = look(node)
    if not isinstance(found, Site):
        return found
    weights = None if found.weights is None else queries.constant_tensor(node.inputs[found.weights])
    for value in found.inputs:
        if value.is_initializer() or queries.constant_tensor(value) is not None:
            return f"its input {value.name!r} is a constant, or has one as its default"
        # The body of a function tells no types, but weights have that of what they multiply.
        dtype = weights.dtype if value.dtype is None and weights is not None else value.dtype
        if dtype != ir.DataType.FLOAT:
            return f"its input {value.name!r} is {dtype}, not float"
    return dataclasses.replace(found, output=_behind(node))


def channels_axis(node: ir.Node) -> int:
    """The axis of the input that the weights sum over."""
    return 1 if node.op_type == "Conv" else -1


def is_depthwise(found: Site) -> bool:
    """Whether it is a convolution of which each output channel has one input channel, its own."""
    shape = queries.static_shape(found.node.inputs[1])
    groups = queries.attribute(found.node, "group", 1)
    return found.node.op_type == "Conv" and shape is not None and shape[:2] == (groups, 1)


def rows(found: Site) -> np.ndarray:
    """The weights of a linear layer: float32 ``(out, in)``, maybe memory-mapped."""
    array = queries.constant(found.node.inputs[1])
    assert array is not None
    return array if found.axis == 0 else array.T


def in_main_graph(value: ir.Value, model: ir.Model) -> bool:
    """Whether ``value`` belongs to the main graph, the values of which can be observed."""
    producer = value.producer()
    return value in model.graph.inputs if producer is None else producer.graph is model.graph


def _convolution(node: ir.Node) -> Site | str | None:
    weights, bias = input_at(node, 1), input_at(node, 2)
    if queries.constant_tensor(weights) is None:
        return "its weights are computed at run time"
    if bias is not None and queries.constant_tensor(bias) is None:
        return "its bias is computed at run time"
    return Site(node, (0,), 1, 0, None if bias is None else 2)


def _gemm(node: ir.Node) -> Site | str | None:
    weights, bias = input_at(node, 1), input_at(node, 2)
    if queries.constant_tensor(weights) is None:
        return "its weights are computed at run time"
    if queries.attribute(node, "alpha", 1.0) != 1.0 or queries.attribute(node, "transA", 0):
        return "it scales the product or transposes its input"
    axis = 0 if queries.attribute(node, "transB", 0) else 1
    shape = queries.static_shape(weights)
    constant = queries.constant_tensor(bias) is not None
    fits = shape is not None and queries.static_shape(bias) in (shape[axis : axis + 1],)
    plain = constant and fits and queries.attribute(node, "beta", 1.0) == 1.0
    return Site(node, (0,), 1, axis, 2 if plain else None)


def _product(node: ir.Node) -> Site | str | None:
    weights = queries.constant_tensor(node.inputs[1])
    if weights is None:
        constant = queries.constant_tensor(node.inputs[0]) is not None
        return "its weights stand on the left" if constant else "it multiplies two activations"
    if len(weights.shape) != 2:
        return f"its weights have rank {len(weights.shape)}, not 2"
    return Site(node, (0,), 1, 1)


def _sum(node: ir.Node) -> Site | str | None:
    if any(queries.constant_tensor(value) is not None for value in node.inputs):
        return None
    return Site(node, (0, 1))


_OPERATORS = {"Conv": _convolution, "Gemm": _gemm, "MatMul": _product, "Add": _sum}

_FUNCTIONS = ("Relu", "Clip")
"""Functions that runtimes compute by saturating what they quantize."""


def _behind(node: ir.Node) -> ir.Value | None:
    """What of the result is quantized; ``None`` if the caller of the graph reads it."""
    value = node.outputs[0]
    uses = list(value.uses())
    if len(uses) == 1 and queries.is_standard(uses[0].node, *_FUNCTIONS):
        function = uses[0].node
        if uses[0].idx == 0 and function.graph is node.graph and not value.is_graph_output():
            value = function.outputs[0]
    return None if value.is_graph_output() else value
