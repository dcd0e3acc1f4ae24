"""simplify-shapes: compute shapes now, as far as they are known."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.ir.queries import attribute
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor, erase_unused, is_used, why_irreplaceable
from infopt.passes.sizes import Sizes
from infopt.passes.sizes.known import Content, Dim, Size


@dataclasses.dataclass(frozen=True)
class SimplifyShapes(Pass):
    """Arithmetic on shapes becomes constants.

    ``Reshape(x, Concat(Shape(x)[0:1], Shape(x)[1:2], 12, 64))`` becomes
    ``Reshape(x, [0, 0, 12, 64])``: a size that Reshape copies from its own input is 0, one that
    follows from the others is -1. A shape that is wholly known becomes a constant; Reshape and
    Expand to the shape that is already there disappear.

    A size is known as a number, or as the size of one axis of one value from which it was
    computed. That two dimensions have the same name is what ONNX says for "the same size", but
    runtimes do not check it; a model whose ``batch`` is fed as 1 here and as 3 there broadcasts.
    So a name is believed in one place only: for a size that Reshape copies (0) while all other
    sizes are numbers or copies. Were the name false, these sizes would not multiply to the number
    of elements, and the Reshape that was there would have failed. (A -1 that was there counts as
    a number where shape inference gives one: on inputs that contradict the names of the model's
    own signature it would have been another number.)

    An axis may be empty. So -1 is written only where all other sizes are numbers greater than
    0: beside a copied size that may be 0, -1 would be undefined where the original was not.
    """

    name: ClassVar[str] = "simplify-shapes"
    preserves: ClassVar[Preserves] = Preserves.EXACT

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Learn all sizes, then rewrite; repeat, because a rewritten Reshape may tell a size."""
        editor = Editor(model)
        changes = -1
        while changes < len(journal.changes):
            changes = len(journal.changes)
            refusals: list[tuple[str, ir.Node, str]] = []
            for root in queries.roots(model):
                sizes = Sizes.of(root)
                for node in list(root.all_nodes()):
                    if node.graph is None or node.domain != "":
                        continue
                    if node.op_type in ("Reshape", "Expand") and is_used(node.outputs[0]):
                        refusals += _rewrite(node, sizes, editor, journal)
                    elif node.op_type != "Constant":
                        _make_constant(node, sizes, editor, journal)
        for refusal in refusals:
            journal.refuse(*refusal)


def _make_constant(node: ir.Node, sizes: Sizes, editor: Editor, journal: Journal) -> None:
    """Make a wholly known output a constant where something that is not known itself reads it."""
    content = _known(node, sizes)
    output = node.outputs[0]
    if content is None or output.dtype is None:
        return
    wanted = output.is_graph_output() or any(_known(u, sizes) is None for u in output.consumers())
    if wanted and journal.permits("known-shape", node):
        array = np.array(content.entries, output.dtype.numpy())
        editor.make_constant(output, ir.Tensor(array.reshape(-1 if content.rank else ())))


def _known(node: ir.Node, sizes: Sizes) -> Content | None:
    """The content of the only output of ``node`` if all of it is known."""
    if node.domain != "" or len(node.outputs) != 1:
        return None
    content = sizes.content(node.outputs[0])
    return content if content is not None and content.known else None


def _rewrite(
    node: ir.Node, sizes: Sizes, editor: Editor, journal: Journal
) -> Iterator[tuple[str, ir.Node, str]]:
    """Drop a Reshape or Expand, or make the target of a Reshape a constant; yields refusals."""
    data, target = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None
    if data is None or target is None:
        return
    if _known(node, sizes) is not None:
        _make_constant(node, sizes, editor, journal)
        if node.graph is None:
            return
    before, after = sizes.shape(data), sizes.shape(node.outputs[0])
    if before is not None and before == after:
        reason = why_irreplaceable(node.outputs[0], data)
        if reason is not None:
            yield "own-shape", node, reason
        elif journal.permits("own-shape", node):
            editor.replace(node.outputs[0], data)
            return
    if node.op_type == "Expand" or queries.constant_tensor(target) is not None:
        return
    entries = _target(node, sizes, before)
    if isinstance(entries, str):
        yield "constant-target", node, entries
    elif entries is not None and journal.permits("constant-target", node):
        name = f"{node.outputs[0].name}_shape"
        constant = editor.add_constant(node, np.array(entries, np.int64), name)
        node.replace_input_with(1, constant)
        node.attributes.pop("allowzero", None)
        erase_unused(target)


def _target(node: ir.Node, sizes: Sizes, data: tuple[Size, ...] | None) -> list[int] | str | None:
    """The constant target of a Reshape; or why there is none; or ``None``: nothing is known."""
    content, result = sizes.content(node.inputs[1]), sizes.shape(node.outputs[0])
    if content is None and result is None:
        return None
    known = content.entries if content is not None else (None,) * len(result or ())
    allow_zero = bool(attribute(node, "allowzero", 0))
    target: list[int] = []
    open_axes = []
    by_name = False
    for axis, entry in enumerate(known):
        own = result[axis] if result is not None and axis < len(result) else None
        copied = data[axis] if data is not None and axis < len(data) else None
        if isinstance(own, int) and own > 0:
            target.append(own)
        elif entry == 0 and allow_zero:
            return f"size {axis} of the target is a real 0, which no copied size may stand beside"
        elif isinstance(entry, int):
            target.append(entry)
        elif entry is not None and entry == copied:
            target.append(0)
        elif isinstance(entry, Dim) and _same_name(entry, node.inputs[0], axis):
            target.append(0)
            by_name = True
        else:
            target.append(-1)
            open_axes.append(axis)
    if by_name and -1 in target:
        return "a size is known by its name only, and another one would be -1"
    if not open_axes:
        return target
    if len(open_axes) > 1 or target.count(-1) > 1:
        return f"sizes {open_axes} of the target are known only at run time"
    if 0 in target:
        return f"size {open_axes[0]} of the target would be -1 beside a size that may be 0"
    return target


def _same_name(size: Dim, value: ir.Value | None, axis: int) -> bool:
    """Whether ``size`` and axis ``axis`` of ``value`` have the same name, in the same graph."""
    if value is None or value.shape is None or axis >= len(value.shape):
        return False
    here, there = value.shape[axis], size.value.shape[size.axis] if size.value.shape else None
    if not isinstance(here, ir.SymbolicDim) or here.value is None:
        return False
    return here == there and value.graph is size.value.graph
