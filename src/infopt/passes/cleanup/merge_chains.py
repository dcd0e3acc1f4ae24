"""merge-chains: one node for two that follow each other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.ir.queries import attribute
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor, erase_unused, is_used, operators, why_irreplaceable
from infopt.passes.sizes import Sizes

RESHAPES = operators("Flatten Reshape Squeeze Unsqueeze")
"""Operators that keep all elements and their order."""


@dataclasses.dataclass(frozen=True)
class MergeChains(Pass):
    """Chains of Reshape, Transpose, Cast, Squeeze and Unsqueeze become one node, or none.

    ``Transpose(Transpose(x))`` becomes one Transpose with the product of the permutations,
    ``Reshape(Unsqueeze(x), [8, 16])`` becomes ``Reshape(x, [8, 16])``,
    ``Cast(Cast(x, to=FLOAT), to=INT8)`` one Cast where the first loses nothing, a Transpose
    that only moves axes of size 1 becomes a Reshape, and Reshape, Transpose of the last two
    axes, Reshape (how exporters write the transposed keys of an attention) one Transpose.

    Where something else reads the value in between, the chain is merged only if its end
    disappears: else nothing would be saved.
    """

    name: ClassVar[str] = "merge-chains"
    preserves: ClassVar[Preserves] = Preserves.EXACT

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Visit every node in order; repeat, because a merge may leave one reader alone."""
        editor = Editor(model)
        refused: dict[ir.Node, tuple[str, str]] = {}
        changes = -1
        while changes < len(journal.changes):
            changes = len(journal.changes)
            refused.clear()
            for root in queries.roots(model):
                opset = root.opset_imports.get("") or model.opset_imports.get("", 1)
                if opset < MODERN_OPSET:
                    continue
                sizes = Sizes()
                for node in list(root.all_nodes()):
                    if node.graph is None:
                        continue
                    sizes.visit(node)
                    merge = _propose(node, sizes)
                    if isinstance(merge, _Refusal):
                        refused[node] = (merge.rule, merge.reason)
                    elif merge is not None and _carry_out(node, merge, editor, journal):
                        sizes.visit(node)
        for node, (rule, reason) in refused.items():
            journal.refuse(rule, node, reason)


MODERN_OPSET = 13
"""From here on Squeeze and Unsqueeze take their axes as an input."""


@dataclasses.dataclass(frozen=True)
class _Merge:
    """What a node may become: ``op_type(source, constant)`` with ``attributes``, or ``source``."""

    rule: str
    source: ir.Value
    op_type: str | None = None
    constant: list[int] | None = None
    attributes: tuple[ir.Attr, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Refusal:
    rule: str
    reason: str


Proposal = _Merge | _Refusal | None


def _propose(node: ir.Node, sizes: Sizes) -> Proposal:
    """What ``node`` may become."""
    if node.domain != "" or node.op_type not in READERS or not is_used(node.outputs[0]):
        return None
    if any(attr.is_ref() for attr in node.attributes.values()):
        return None
    source = node.inputs[0]
    producer = None if source is None else source.producer()
    merge: Proposal = None
    if source is not None and producer is not None and _is_chain(producer):
        merge = READERS[node.op_type](node, producer, sizes)
    if isinstance(merge, _Merge):
        assert source is not None
        if merge.op_type is None:
            reason = why_irreplaceable(node.outputs[0], merge.source)
        elif len(source.uses()) > 1 or source.is_graph_output():
            reason = f"{source.name!r} is needed all the same"
        else:
            reason = None
        return merge if reason is None else _Refusal(merge.rule, reason)
    if merge is None and node.op_type == "Transpose":
        return _transpose_of_ones(node, sizes)
    return merge


def _is_chain(node: ir.Node) -> bool:
    refers = any(attr.is_ref() for attr in node.attributes.values())
    return node.domain == "" and node.op_type in READERS and not refers


def _carry_out(node: ir.Node, merge: _Merge, editor: Editor, journal: Journal) -> bool:
    if not journal.permits(merge.rule, node):
        return False
    if merge.op_type is None:
        editor.replace(node.outputs[0], merge.source)
        return False
    before = list(node.inputs)
    inputs: list[ir.Value | None] = [merge.source]
    if merge.constant is not None:
        array = np.array(merge.constant, np.int64)
        kind = "shape" if merge.op_type == "Reshape" else "axes"
        inputs.append(editor.add_constant(node, array, f"{node.outputs[0].name}_{kind}"))
    elif merge.op_type == node.op_type:
        inputs += before[1:]
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        node.replace_input_with(index, value)
    node.op_type = merge.op_type
    node.attributes.clear()
    for attr in merge.attributes:
        node.attributes.add(attr)
    erase_unused(*before)
    return True


# What the second node of a chain makes of the first.


def _cast(node: ir.Node, first: ir.Node, _sizes: Sizes) -> Proposal:
    source = first.inputs[0]
    if first.op_type != "Cast" or source is None or source.dtype is None:
        return None
    origin, between = source.dtype, ir.DataType(attribute(first, "to", 0))
    to = ir.DataType(attribute(node, "to", 0))
    if between not in WIDER.get(origin, ()):
        if origin in WIDER or to == origin:
            return _Refusal("cast-cast", f"the cast from {origin} to {between} may lose something")
        return None
    if to == origin:
        return _Merge("cast-cast", source)
    if (
        origin in INTEGERS
        and between not in INTEGERS
        and to in INTEGERS
        and to not in WIDER[origin]
    ):
        return _Refusal("cast-cast", f"{to} cannot hold every {origin}; it matters how it is cast")
    return _Merge("cast-cast", source, "Cast", attributes=tuple(node.attributes.values()))


def _transpose(node: ir.Node, first: ir.Node, _sizes: Sizes) -> Proposal:
    source = first.inputs[0]
    if first.op_type != "Transpose" or source is None:
        return None
    inner, outer = _perm(first), _perm(node)
    if inner is None or outer is None:
        return None
    perm = [inner[axis] for axis in outer]
    if perm == sorted(perm):
        return _Merge("transpose-transpose", source)
    return _Merge(
        "transpose-transpose", source, "Transpose", attributes=(ir.AttrInt64s("perm", perm),)
    )


def _perm(node: ir.Node) -> list[int] | None:
    perm: tuple[int, ...] = attribute(node, "perm", ())
    source = node.inputs[0]
    if perm:
        return list(perm)
    return None if source is None or source.shape is None else [*range(len(source.shape))][::-1]


def _reshape(node: ir.Node, first: ir.Node, sizes: Sizes) -> Proposal:
    if first.op_type == "Transpose":
        return _swap_of_last_two(node, first, sizes)
    source = first.inputs[0]
    if first.op_type not in RESHAPES or source is None:
        return None
    if node.op_type in ("Squeeze", "Unsqueeze") and first.op_type in ("Squeeze", "Unsqueeze"):
        return _axes(node, first)
    rule = f"{first.op_type}-{node.op_type}".lower()
    before, after = sizes.shape(source), sizes.shape(node.outputs[0])
    if before is not None and before == after:
        return _Merge(rule, source)
    target = _target(node, source, sizes)
    if target is None:
        return _Refusal(rule, "more than one size is known only at run time")
    return _Merge(rule, source, "Reshape", target)


def _target(node: ir.Node, source: ir.Value, sizes: Sizes) -> list[int] | None:
    """A constant with which Reshape gives ``source`` the shape of the output of ``node``."""
    before, after = sizes.shape(source), sizes.shape(node.outputs[0])
    if after is None:
        # A constant without copies means the same for every input of as many elements.
        content = sizes.content(node.inputs[1]) if node.op_type == "Reshape" else None
        if content is None or not content.known or 0 in content.entries:
            return None
        return [int(entry) for entry in content.entries if isinstance(entry, int)]
    target: list[int] = []
    for axis, size in enumerate(after):
        if isinstance(size, int) and size > 0:
            target.append(size)
        elif before is not None and axis < len(before) and before[axis] == size:
            target.append(0)
        else:
            target.append(-1)
    # -1 is undefined beside a size that may be 0.
    if target.count(-1) > 1 or (-1 in target and 0 in target):
        return None
    return target


def _axes(node: ir.Node, first: ir.Node) -> Proposal:
    """Squeeze and Unsqueeze, followed on the list of axes of what they are applied to."""
    source = first.inputs[0]
    rule = f"{first.op_type}-{node.op_type}".lower()
    if source is None or source.shape is None:
        return None
    axes: list[int | None] = list(range(len(source.shape)))  # None is an axis of size 1 put in
    gone: set[int] = set()
    for step in (first, node):
        given = queries.constant(step.inputs[1]) if len(step.inputs) > 1 else None
        if given is None:
            return None
        rank = len(axes) + (given.size if step.op_type == "Unsqueeze" else 0)
        places = sorted(int(place) % rank for place in given.ravel())
        if step.op_type == "Unsqueeze":
            for place in places:
                axes.insert(place, None)
        else:
            gone |= {axis for axis in (axes[place] for place in places) if axis is not None}
            axes = [axis for place, axis in enumerate(axes) if place not in places]
    new = [place for place, axis in enumerate(axes) if axis is None]
    if len(axes) == len(source.shape) and all(
        axis == place or (axis is None and place in gone) for place, axis in enumerate(axes)
    ):
        return _Merge(rule, source)
    if not gone:
        return _Merge(rule, source, "Unsqueeze", new)
    if not new:
        return _Merge(rule, source, "Squeeze", sorted(gone))
    return _Refusal(rule, "axes come and go in different places")


def _transpose_of_ones(node: ir.Node, sizes: Sizes) -> Proposal:
    """A Transpose that leaves the order of all axes but those of size 1 is a Reshape."""
    source, perm = node.inputs[0], _perm(node)
    shape = sizes.shape(source)
    if source is None or perm is None or shape is None or perm == sorted(perm):
        return None
    moved = [axis for axis in perm if shape[axis] != 1]
    if moved != sorted(moved):
        return None
    target = _target(node, source, sizes)
    if target is None:
        return _Refusal("transpose-of-ones", "more than one size is known only at run time")
    return _Merge("transpose-of-ones", source, "Reshape", target)


def _swap_of_last_two(node: ir.Node, transpose: ir.Node, sizes: Sizes) -> Proposal:
    """``[b, h, s, d] → [b * h, s, d] → [b * h, d, s] → [b, h, d, s]`` is one Transpose."""
    middle = transpose.inputs[0]
    collapse = None if middle is None else middle.producer()
    if collapse is None or collapse.op_type != "Reshape" or _perm(transpose) != [0, 2, 1]:
        return None
    source = collapse.inputs[0]
    before, between = sizes.shape(source), sizes.shape(middle)
    after = sizes.shape(node.outputs[0])
    if source is None or before is None or between is None or after is None or len(before) < 3:
        return None
    wanted = (*before[:-2], before[-1], before[-2])
    if between[-2:] != before[-2:] or len(after) != len(wanted):
        return None
    others = [pair for pair in zip(after, wanted, strict=True) if pair[0] != pair[1]]
    # The elements are as many, so one size follows from the others.
    if len(others) > 1 or any(isinstance(a, int) and isinstance(b, int) for a, b in others):
        return None
    rank = len(before)
    perm = [*range(rank - 2), rank - 1, rank - 2]
    return _Merge(
        "reshape-transpose-reshape", source, "Transpose", attributes=(ir.AttrInt64s("perm", perm),)
    )


READERS: dict[str, Callable[[ir.Node, ir.Node, Sizes], Proposal]] = {
    "Cast": _cast,
    "Flatten": _reshape,
    "Reshape": _reshape,
    "Squeeze": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}

_D = ir.DataType
INTEGERS = frozenset(
    (_D.INT8, _D.INT16, _D.INT32, _D.INT64, _D.UINT8, _D.UINT16, _D.UINT32, _D.UINT64)
)
_FLOAT64 = (_D.DOUBLE,)
_FLOAT32 = (_D.FLOAT, *_FLOAT64)
_FLOAT16 = (_D.FLOAT16, _D.BFLOAT16, *_FLOAT32)
WIDER: dict[ir.DataType, frozenset[ir.DataType]] = {
    _D.BOOL: INTEGERS | frozenset(_FLOAT16),
    _D.INT8: frozenset((_D.INT8, _D.INT16, _D.INT32, _D.INT64, *_FLOAT16)),
    _D.UINT8: INTEGERS - {_D.INT8} | frozenset(_FLOAT16),
    _D.INT16: frozenset((_D.INT16, _D.INT32, _D.INT64, *_FLOAT32)),
    _D.UINT16: INTEGERS - {_D.INT8, _D.UINT8, _D.INT16} | frozenset(_FLOAT32),
    _D.INT32: frozenset((_D.INT32, _D.INT64, *_FLOAT64)),
    _D.UINT32: frozenset((_D.UINT32, _D.UINT64, _D.INT64, *_FLOAT64)),
    _D.INT64: frozenset((_D.INT64,)),
    _D.UINT64: frozenset((_D.UINT64,)),
    _D.FLOAT16: frozenset((_D.FLOAT16, *_FLOAT32)),
    _D.BFLOAT16: frozenset((_D.BFLOAT16, *_FLOAT32)),
    _D.FLOAT: frozenset(_FLOAT32),
    _D.DOUBLE: frozenset(_FLOAT64),
}
"""Which types hold every value of a type."""
