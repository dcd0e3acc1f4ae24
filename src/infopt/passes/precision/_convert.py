"""The base of convert-float16 and convert-bfloat16."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Preserves
from infopt.passes.editing import Editor, erase_unused, is_used
from infopt.passes.keeping import KEPT, Keeping
from infopt.passes.observed import NOT_OBSERVED, calibration_of
from infopt.passes.precision._half import Half
from infopt.passes.precision._judge import Judge, Site, widened
from infopt.passes.precision._masks import Masks, may_be_infinite
from infopt.passes.precision._operators import INSIDE
from infopt.quant.calibration import Request


@dataclasses.dataclass(frozen=True)
class Convert(Keeping):
    """Float32 becomes a type of 16 bits, node by node, where that type can hold the numbers."""

    preserves: ClassVar[Preserves] = Preserves.APPROXIMATE
    half: ClassVar[Half]
    """The type."""

    operators: str = ""
    """The only operators to convert, with ``+`` between them; by default all."""
    share: float = 0.5
    """How much of the range of the type an observed value may take: other data reaches further."""
    boundary: bool = False
    """Whether inputs and outputs of the graph change as well; what compares both then has to
    convert them."""

    def observes(self, model: ir.Model) -> Iterable[Request]:
        for found in self._judge(model).sites():
            for value in (*(value for _, value in found.read), *found.written):
                constant = queries.constant_tensor(value) is not None or value.is_initializer()
                if value.name and not constant:
                    yield Request(value.name, "histogram")

    def apply(self, model: ir.Model, journal: Journal) -> None:
        judge = self._judge(model)
        writer = _Writer(model, self.half, judge.masks)
        verdicts = list(judge.verdicts())
        if verdicts and not calibration_of(model).samples:
            where = model.graph.name or "the model"
            journal.refuse("range", where, f"it {NOT_OBSERVED}; only its constants were judged")
        kept = self.kept(model)
        for found, reason in verdicts:
            if found.node.name in kept:
                journal.refuse("convert", found.node, KEPT)
            elif reason is not None:
                journal.refuse("convert", found.node, reason)
            elif journal.permits("convert", found.node):
                writer.convert(found)
        if self.boundary:
            _move_boundary(model, self.half, journal)

    def _judge(self, model: ir.Model) -> Judge:
        return Judge(model, self.half, calibration_of(model), self.share, self.operators)


class _Writer:
    """Changes the types of nodes; casts stand where both types meet."""

    def __init__(self, model: ir.Model, half: Half, masks: Masks) -> None:
        self._editor = Editor(model)
        self._half = half
        self._masks = masks
        self._narrow: dict[tuple[ir.Value, bool], ir.Value] = {}

    def convert(self, found: Site) -> None:
        """Let a node compute in the other type; whatever else reads it reads a cast."""
        node = found.node
        for index, value in found.read:
            new = self._narrowed(value, node, bounded=index in found.bounded)
            node.replace_input_with(index, new)
            erase_unused(value)
        self._write_attributes(node)
        for value in reversed(found.written):
            self._widen(value, node)

    def _narrowed(self, value: ir.Value, node: ir.Node, *, bounded: bool) -> ir.Value:
        """``value`` in the other type: a constant, what it was cast from, or a cast."""
        source = widened(value, self._half)
        if source is not None:
            return source
        tensor = queries.constant_tensor(value)
        if (value, bounded) not in self._narrow:
            if tensor is not None:
                new = self._half.narrowed(tensor, masks=bounded)
                name = f"{value.name}_{self._half}"
                self._narrow[value, bounded] = self._editor.add_tensor(node, new, name)
            else:
                finite = self._bounded(value, node) if bounded else value
                self._narrow[value, bounded] = self._cast(finite, node, f"{value.name}")
        return self._narrow[value, bounded]

    def _bounded(self, value: ir.Value, node: ir.Node) -> ir.Value:
        """A mask whose finite numbers the other type can hold."""
        ban = self._editor.add_constant(
            node, np.array(self._half.ban, np.float32), f"{value.name}_ban"
        )
        most = self._insert(node, "Max", [value, ban], value, f"{value.name}_bounded")
        if not may_be_infinite(value, self._masks.nodes):
            return most
        flag = ir.AttrInt64("detect_positive", 0)
        found = self._insert(node, "IsInf", [value], value, f"{value.name}_infinite", flag)
        found.type = ir.TensorType(ir.DataType.BOOL)
        return self._insert(node, "Where", [found, value, most], value, f"{value.name}_mask")

    def _cast(self, value: ir.Value, before: ir.Node, base: str) -> ir.Value:
        to = ir.AttrInt64("to", self._half.dtype)
        new = self._insert(before, "Cast", [value], value, f"{base}_{self._half}", to)
        new.type = ir.TensorType(self._half.dtype)
        return new

    def _insert(
        self,
        before: ir.Node,
        op_type: str,
        inputs: list[ir.Value],
        like: ir.Value,
        name: str,
        *attributes: ir.Attr,
    ) -> ir.Value:
        node = ir.Node("", op_type, inputs, attributes, num_outputs=1)
        node.name = self._editor.fresh_name(f"{name}/{op_type}")
        output = node.outputs[0]
        output.name = self._editor.fresh_name(name)
        output.type = like.type
        output.shape = None if like.shape is None else like.shape.copy()
        assert before.graph is not None
        before.graph.insert_before(before, node)
        return output

    def _widen(self, value: ir.Value, node: ir.Node) -> None:
        """Let ``value`` be of the other type, and whatever reads it read a cast of it."""
        name = str(value.name)
        wide = ir.Value(type=value.type, shape=None if value.shape is None else value.shape.copy())
        returned, used = value.is_graph_output(), is_used(value)
        value.type = ir.TensorType(self._half.dtype)
        if not used:
            return
        if returned:
            value.name = self._editor.fresh_name(f"{name}_{self._half}")
            wide.name = name
        else:
            wide.name = self._editor.fresh_name(f"{name}_float")
        value.replace_all_uses_with(wide, replace_graph_outputs=True)
        to = ir.AttrInt64("to", ir.DataType.FLOAT)
        cast = ir.Node("", "Cast", [value], [to], outputs=[wide])
        cast.name = self._editor.fresh_name(f"{wide.name}/Cast")
        assert node.graph is not None
        node.graph.insert_after(node, cast)

    def _write_attributes(self, node: ir.Node) -> None:
        if node.domain != "":
            return
        if node.op_type == "Cast" and node.outputs[0].dtype == ir.DataType.FLOAT:
            node.attributes["to"] = ir.AttrInt64("to", self._half.dtype)
        elif node.op_type == "ConstantOfShape":
            value = node.attributes.get("value")
            old = ir.tensor([0.0]) if value is None else value.as_tensor()
            new = self._half.narrowed(old, masks=node in self._masks.nodes)
            node.attributes["value"] = ir.AttrTensor("value", new)
        elif node.op_type in INSIDE:
            name = INSIDE[node.op_type]
            node.attributes[name] = ir.AttrInt64(name, ir.DataType.FLOAT)


def _move_boundary(model: ir.Model, half: Half, journal: Journal) -> None:
    """Let inputs and outputs of the graph be of the other type where nothing needs them wide."""
    graph = model.graph
    for value in graph.inputs:
        if value.dtype != ir.DataType.FLOAT:
            continue
        casts = [use.node for use in value.uses() if _casts_to(use.node, half)]
        if value.is_initializer() or value.is_graph_output() or len(casts) < len(value.uses()):
            journal.refuse("boundary", value, "it is read as float32, too")
        elif casts and journal.permits("boundary", value):
            value.type = ir.TensorType(half.dtype)
            for cast in casts:
                cast.outputs[0].replace_all_uses_with(value)
                erase_unused(cast.outputs[0])
    for wide in list(graph.outputs):
        narrow = widened(wide, half)
        if narrow is None or narrow.producer() is None or narrow.is_graph_output():
            continue
        if len(wide.uses()) == 0 and journal.permits("boundary", wide):
            name, wide.name = wide.name, None
            wide.replace_all_uses_with(narrow, replace_graph_outputs=True)
            narrow.name = name
            erase_unused(wide)


def _casts_to(node: ir.Node, half: Half) -> bool:
    returns = any(value.is_graph_output() for value in node.outputs)
    return queries.is_standard(node, "Cast") and node.outputs[0].dtype == half.dtype and not returns
