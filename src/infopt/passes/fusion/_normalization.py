"""The steps that the normalizations share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import (
    either_way,
    is_scalar,
    keeps_shape,
    produced_by,
    rank,
    reduced_axes,
    size,
    with_scalar,
)
from infopt.passes.rewriting import Builder

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)

Fits = Callable[[ir.Value], bool]


def normalized(node: ir.Node) -> tuple[ir.Value, ir.Node, float] | None:
    """``x``, the mean and epsilon, if ``node`` computes ``x / sqrt(mean(x ** 2) + epsilon)``."""
    if node.op_type == "Div":
        root = produced_by(node.inputs[1], "Sqrt")
        pairs = [(node.inputs[0], None if root is None else root.inputs[0])]
    else:
        pairs = [(x, _under_root(factor)) for x, factor in either_way(node)]
    for x, variance in pairs:
        add = produced_by(variance, "Add")
        found = None if add is None else with_scalar(add)
        if x is None or add is None or found is None or not keeps_shape(add, found[0]):
            continue
        mean = produced_by(found[0], "ReduceMean")
        if mean is not None and _is_square(mean.inputs[0], x):
            return x, mean, found[1]
    return None


def channels(x: ir.Value, *means: ir.Node) -> int | str:
    """The size of the last axis, that of all ``means``; or why the operator does not fit here."""
    if any(reduced_axes(mean) != (-1,) for mean in means):
        return f"{'the' if len(means) == 1 else 'a'} mean is not that of the last axis, kept"
    length = size(x, -1)
    if length is None:
        return "the size of the last axis is known only at run time"
    if x.dtype != ir.DataType.FLOAT:
        # In 16 bits the parts round, and overflow, where the operator's float32 stash does not.
        return f"it is computed in {x.dtype}, not in float32"
    return length


def _under_root(value: ir.Value) -> ir.Value | None:
    """``v`` of ``v ** -0.5``."""
    power = produced_by(value, "Pow")
    if power is not None:
        return power.inputs[0] if is_scalar(power.inputs[1], -0.5) else None
    node = produced_by(value, "Reciprocal", "Div")
    if node is None or (node.op_type == "Div" and not is_scalar(node.inputs[0], 1.0)):
        return None
    root = produced_by(node.inputs[-1], "Sqrt")
    return None if root is None else root.inputs[0]


def _is_square(value: ir.Value | None, x: ir.Value) -> bool:
    node = produced_by(value, "Pow", "Mul")
    if node is None or node.inputs[0] is not x:
        return False
    if node.op_type == "Mul":
        return node.inputs[1] is x
    return is_scalar(node.inputs[1], 2.0) and keeps_shape(node, x)


@dataclasses.dataclass(frozen=True)
class Ending:
    """What a normalization starts from and ends in, with a factor and perhaps a summand."""

    source: ir.Value
    output: ir.Value
    weight: ir.Value | None = None
    bias: ir.Value | None = None

    def constants(
        self, to: Builder, shape: tuple[int, ...], *, both: bool = False
    ) -> list[ir.Value]:
        """Weight and bias as the operator takes them: of one shape, and the type of ``source``.

        A weight that is not there is ones. A bias that is not there is zeros if the operator
        needs ``both``.
        """
        values = [(self.weight, "weight", 1.0)]
        if both or self.bias is not None:
            values.append((self.bias, "bias", 0.0))
        dtype = self.source.dtype
        assert dtype is not None
        found: list[ir.Value] = []
        for value, name, default in values:
            if value is None:
                found.append(to.constant(np.full(shape, default, dtype.numpy()), name))
            elif value.dtype == dtype and queries.static_shape(value) == shape:
                found.append(value)
            else:
                array = np.asarray(queries.constant(value)).astype(dtype.numpy())
                found.append(to.constant(array.reshape(shape), name))
        return found


def ending(
    x: ir.Value, node: ir.Node, fits: Fits, *, bias: bool = True, casts: bool = False
) -> Ending:
    """Where the normalization of ``x`` that ``node`` computes ends.

    In a graph of 16 bits it may stand between a Cast to float32 and one back; weight and bias
    are multiplied and added before or after that Cast. Before it, they must be numbers that 16
    bits can hold.

    Args:
        x: What is normalized.
        node: The last node without weight and bias.
        fits: Whether a constant is one that the operator takes as weight or bias.
        bias: Whether the operator has one.
        casts: Whether the operator computes in float32 whatever its type, so that the Casts
            are part of it.
    """
    up = produced_by(x, "Cast")
    half = None if up is None else up.inputs[0]
    inside, weight, offset = _following(node, fits, bias=bias)
    if casts and half is not None and half.dtype in HALVES:
        down = _cast_back(inside, half)
        if down is not None and all(_holds(half, value) for value in (weight, offset)):
            return Ending(half, down.outputs[0], weight, offset)
        down = _cast_back(node, half)
        if down is not None:
            last, weight, offset = _following(down, fits, bias=bias)
            return Ending(half, last.outputs[0], weight, offset)
    return Ending(x, inside.outputs[0], weight, offset)


def _following(
    node: ir.Node, fits: Fits, *, bias: bool
) -> tuple[ir.Node, ir.Value | None, ir.Value | None]:
    """The last of ``node``, the Mul of a weight and the Add of a bias behind it; and these two."""
    weighted, weight = following(node, "Mul", fits)
    last = weighted or node
    biased, offset = following(last, "Add", fits) if bias else (None, None)
    return biased or last, weight, offset


def following(
    node: ir.Node, op_type: str, fits: Fits
) -> tuple[ir.Node, ir.Value] | tuple[None, None]:
    """The Mul or Add that alone reads ``node``, and its other input: a constant that fits."""
    reader = _only_reader(node)
    if reader is None or not queries.is_standard(reader, op_type):
        return None, None
    for value, constant in either_way(reader):
        if value is not node.outputs[0] or constant.dtype != value.dtype:
            continue
        if queries.constant_tensor(constant) is not None and fits(constant):
            return reader, constant
    return None, None


def of_length(length: int) -> Fits:
    """Whether a constant has one axis of this length."""
    return lambda value: queries.static_shape(value) == (length,)


def per_channel(channels: int, axes: int) -> Fits:
    """Whether a constant has one number for each of the ``channels`` on the second of ``axes``."""

    def fits(value: ir.Value) -> bool:
        shape = queries.static_shape(value)
        if shape is None or len(shape) > axes or math.prod(shape) != channels:
            return False
        return channels == 1 or (len(shape) >= axes - 1 and shape[1 - axes] == channels)

    return fits


def _only_reader(node: ir.Node) -> ir.Node | None:
    uses = list(node.outputs[0].uses())
    if len(uses) != 1 or node.outputs[0].is_graph_output():
        return None
    return uses[0].node if uses[0].node.graph is node.graph else None


def _cast_back(node: ir.Node, half: ir.Value) -> ir.Node | None:
    """The Cast that alone reads ``node``, if it casts to the type of ``half``."""
    reader = _only_reader(node)
    down = None if reader is None else produced_by(reader.outputs[0], "Cast")
    return down if down is not None and down.outputs[0].dtype == half.dtype else None


def _holds(half: ir.Value, constant: ir.Value | None) -> bool:
    array = queries.constant(constant)
    if array is None or half.dtype is None:
        return True
    with np.errstate(over="ignore"):
        return np.array_equal(array.astype(half.dtype.numpy()).astype(array.dtype), array)


def centered(value: ir.Value | None) -> tuple[ir.Value, ir.Node] | None:
    """``x`` and its mean, if ``value`` is ``x - mean(x)``."""
    sub = produced_by(value, "Sub")
    mean = None if sub is None else produced_by(sub.inputs[1], "ReduceMean")
    if sub is None or mean is None or sub.inputs[0] is None or mean.inputs[0] is not sub.inputs[0]:
        return None
    return sub.inputs[0], mean


def over_space(x: ir.Value, *means: ir.Node) -> bool:
    """Whether all ``means`` run over the axes behind batch and channels, two or more."""
    count = rank(x)
    space = () if count is None else tuple(range(2 - count, 0))
    return len(space) > 1 and all(reduced_axes(mean) == space for mean in means)
