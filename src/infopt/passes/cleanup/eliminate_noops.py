"""eliminate-noops: drop nodes that return one of their inputs as it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.ir.queries import attribute
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor, is_used, why_irreplaceable


@dataclasses.dataclass(frozen=True)
class EliminateNoops(Pass):
    """What reads ``y = Identity(x)`` reads ``x``, and the same for all that only looks busy.

    Cast to the type that is there, Reshape and Expand to the shape that is there, Transpose
    that keeps the order, Slice of everything, Pad by nothing, Dropout in inference, Concat of
    one, Tile once, and arithmetic that is exact bit for bit: ``x * 1``,
    ``x / 1``, ``x - 0``, ``x ** 1``, but not ``x + 0.0``, which turns -0.0 into 0.0.

    A node between a graph's input and its output stays: both keep their names.
    """

    name: ClassVar[str] = "eliminate-noops"
    preserves: ClassVar[Preserves] = Preserves.EXACT

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Visit every node once, in order: what a no-op reads was visited before it."""
        editor = Editor(model)
        for root in queries.roots(model):
            opset = root.opset_imports.get("") or model.opset_imports.get("", 1)
            for node in list(root.all_nodes()):
                rule = RULES.get(node.op_type)
                if rule is None or node.domain != "" or node.graph is None:
                    continue
                if any(attr.is_ref() for attr in node.attributes.values()):
                    continue
                if any(map(is_used, node.outputs[1:])) or not is_used(node.outputs[0]):
                    continue
                found = rule(node, opset)
                if found is None:
                    continue
                old, new = node.outputs[0], found
                if isinstance(new, str):
                    journal.refuse(f"drop-{node.op_type}", node, new)
                elif (reason := why_irreplaceable(old, new)) is not None:
                    journal.refuse(f"drop-{node.op_type}", node, reason)
                elif journal.permits(f"drop-{node.op_type}", node):
                    editor.replace(old, new)


Found = ir.Value | str | None
"""The input that the node returns; or why it only nearly does; or nothing to say."""


Rule = Callable[[ir.Node, int], Found]
"""Called with a node and the opset that it speaks."""


def _when(holds: Callable[[ir.Node], bool]) -> Rule:
    """The rule that a node returns its first input when ``holds``."""

    def rule(node: ir.Node, _opset: int) -> Found:
        return node.inputs[0] if holds(node) else None

    return rule


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _ints(node: ir.Node, index: int, name: str) -> list[int] | None:
    """The constant integers of an input, or of the attribute that it was in older opsets."""
    if name in node.attributes:
        return list(attribute(node, name, ()))
    array = queries.constant(_input(node, index))
    return None if array is None else [int(x) for x in array.ravel()]


def _keeps_shape(node: ir.Node) -> bool:
    shape = queries.static_shape(node.inputs[0])
    return shape is not None and shape == queries.static_shape(node.outputs[0])


def _reshapes_to_own(node: ir.Node) -> bool:
    """Whether each size of a constant target is the one that is there already.

    A 0 copies the size, and one -1 is what is left, which is the same if all others are.
    """
    shape, target = (
        None if node.inputs[0] is None else node.inputs[0].shape,
        _ints(node, 1, "shape"),
    )
    if shape is None or target is None or len(target) != len(shape) or target.count(-1) > 1:
        return _keeps_shape(node)
    copies = not attribute(node, "allowzero", 0)
    return all(
        size == dim or size == -1 or (size == 0 and copies)
        for size, dim in zip(target, shape, strict=True)
    )


def _keeps_type(node: ir.Node) -> bool:
    source = node.inputs[0]
    return source is not None and source.dtype == ir.DataType(attribute(node, "to", 0))


def _like_own_type(node: ir.Node) -> bool:
    source, like = node.inputs
    if source is None or like is None or source.dtype is None:
        return False
    return source.dtype == like.dtype


def _flattens_matrix(node: ir.Node) -> bool:
    shape = None if node.inputs[0] is None else node.inputs[0].shape
    matrix = shape is not None and len(shape) == 2 and attribute(node, "axis", 1) in (1, -1)
    return matrix or _keeps_shape(node)


def _keeps_order(node: ir.Node) -> bool:
    perm: tuple[int, ...] = attribute(node, "perm", ())
    if perm:
        return list(perm) == list(range(len(perm)))
    source = node.inputs[0]
    return source is not None and source.shape is not None and len(source.shape) <= 1


def _slices_everything(node: ir.Node) -> bool:
    starts, ends = _ints(node, 1, "starts"), _ints(node, 2, "ends")
    steps = _ints(node, 4, "steps") if _input(node, 4) is not None else None
    if starts is None or ends is None or any(starts):
        return False
    if _input(node, 4) is not None and (steps is None or any(step != 1 for step in steps)):
        return False
    if all(end >= np.iinfo(np.int64).max for end in ends):
        return True  # what exporters write for "to the end"
    axes: list[int] | None = list(range(len(ends)))
    if "axes" in node.attributes or _input(node, 3) is not None:
        axes = _ints(node, 3, "axes")
    shape = queries.static_shape(node.inputs[0])
    if shape is None or axes is None:
        return False
    return all(end >= shape[axis] for end, axis in zip(ends, axes, strict=True))


def _pads_nothing(node: ir.Node) -> bool:
    pads = _ints(node, 1, "pads")
    return pads is not None and not any(pads)


def _drops_nothing(node: ir.Node, opset: int) -> Found:
    if opset < 7:
        return None  # trains unless it says that it does not
    training = _input(node, 2)
    if training is not None:
        flag = queries.constant(training)
        if flag is None:
            return f"whether it trains is only known at run time: {training.name!r}"
        if flag.item():
            return "it trains"
    return node.inputs[0]


def _squeezes_nothing(node: ir.Node) -> bool:
    if "axes" in node.attributes or _input(node, 1) is not None:
        return _ints(node, 1, "axes") == []
    shape = queries.static_shape(node.inputs[0])
    return shape is not None and 1 not in shape


def _splits_nothing(node: ir.Node) -> bool:
    return len(node.outputs) == 1


def _tiles_once(node: ir.Node) -> bool:
    repeats = _ints(node, 1, "repeats")
    return repeats is not None and all(count == 1 for count in repeats)


def _clips_nothing(node: ir.Node, opset: int) -> Found:
    bounds = {"min", "max"} & set(node.attributes)
    if opset >= 11:
        bounds = {str(value.name) for value in node.inputs[1:] if value is not None}
    source = node.inputs[0]
    if bounds or source is None or source.dtype is None:
        return None
    if source.dtype.is_floating_point():
        return "without bounds, it turns infinities into the largest finite numbers"
    return source


def _pools_one(node: ir.Node, _opset: int) -> Found:
    kernel: tuple[int, ...] = attribute(node, "kernel_shape", ())
    ones: list[int] = [*kernel, *attribute(node, "strides", ())]
    if not kernel or any(x != 1 for x in ones) or any(attribute(node, "pads", ())):
        return None
    source = node.inputs[0]
    if source is None or source.dtype is None or source.dtype.is_floating_point():
        return "pooling one element still changes NaN, infinities or the sign of zero"
    return source


def _is_single(node: ir.Node) -> bool:
    return len(node.inputs) == 1


def _neutral(neutral: float, *, either_side: bool) -> Rule:
    """The rule for ``x ∘ neutral``; a zero must have the sign of ``neutral``, bit for bit."""

    def rule(node: ir.Node, _opset: int) -> Found:
        for index in (1, 0) if either_side else (1,):
            other, array = node.inputs[1 - index], queries.constant(node.inputs[index])
            if array is None or other is None or array.dtype.kind not in "iuf" or not array.size:
                continue
            first = array.reshape(-1)[0]
            if first != neutral or not (array == first).all():
                continue
            is_float = array.dtype.kind == "f"
            if is_float and (np.signbit(array) != np.signbit(neutral)).any():
                return f"{node.op_type} of {first} turns one of the two floating-point zeros around"
            if node.op_type == "Pow" and not (is_float and other.dtype in FLOATS):
                return "Pow of integers takes the way over floating point"
            if not _broadcasts_to(array.shape, other):
                return f"the constant of shape {list(array.shape)} may widen the other operand"
            return other
        return None

    return rule


FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


def _broadcasts_to(shape: tuple[int, ...], value: ir.Value) -> bool:
    """Whether an operand of ``shape`` leaves the shape of ``value`` as it is."""
    if value.shape is None or len(shape) > len(value.shape):
        return False
    aligned = value.shape.dims[len(value.shape) - len(shape) :]
    return all(size in (1, dim) for size, dim in zip(shape, aligned, strict=True))


RULES: dict[str, Rule] = {
    "Add": _neutral(-0.0, either_side=True),
    "AveragePool": _pools_one,
    "Cast": _when(_keeps_type),
    "CastLike": _when(_like_own_type),
    "Clip": _clips_nothing,
    "Concat": _when(_is_single),
    "Div": _neutral(1.0, either_side=False),
    "Dropout": _drops_nothing,
    "Expand": _when(_keeps_shape),
    "Flatten": _when(_flattens_matrix),
    "Identity": _when(lambda _: True),
    "Max": _when(_is_single),
    "MaxPool": _pools_one,
    "Mean": _when(_is_single),
    "Min": _when(_is_single),
    "Mul": _neutral(1.0, either_side=True),
    "Pad": _when(_pads_nothing),
    "Pow": _neutral(1.0, either_side=False),
    "Reshape": _when(_reshapes_to_own),
    "Slice": _when(_slices_everything),
    "Split": _when(_splits_nothing),
    "Squeeze": _when(_squeezes_nothing),
    "Sub": _neutral(0.0, either_side=False),
    "Sum": _when(_is_single),
    "Tile": _when(_tiles_once),
    "Transpose": _when(_keeps_order),
    "Unsqueeze": _when(_squeezes_nothing),
}
