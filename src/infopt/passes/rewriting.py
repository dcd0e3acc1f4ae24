"""What raising and legalizing passes have in common: find a pattern, put other nodes there.

A pass looks at each node that may be the last of its pattern (``anchors``) and answers with
``None`` (no such pattern here), a :class:`Miss` (nearly, and why not), or a :class:`Found`,
whose ``build`` writes the new nodes. The pattern's own nodes disappear where nothing else
reads them.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import onnx
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor, is_used
from infopt.passes.sizes import Sizes


class Builder:
    """Writes nodes in front of ``anchor``, with names, types and shapes."""

    def __init__(self, editor: Editor, anchor: ir.Node, opset: int) -> None:
        self.opset = opset
        self._editor = editor
        self._anchor = anchor
        self._base = anchor.name or str(anchor.outputs[0].name)

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        domain: str = "",
        like: ir.Value | None = None,
        **attributes: float | int | str | Sequence[int] | None,
    ) -> ir.Value:
        """The first output of a new node.

        Args:
            op_type: The operator.
            *inputs: Its inputs; ``None`` for one that is omitted.
            domain: The domain of the operator.
            like: A value whose type and shape the output has; inferred if it is not given.
            **attributes: Attributes; those that are ``None`` are left out.
        """
        return self.ops(op_type, *inputs, domain=domain, like=[like], **attributes)[0]

    def ops(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        like: Sequence[ir.Value | None],
        domain: str = "",
        **attributes: float | int | str | Sequence[int] | None,
    ) -> Sequence[ir.Value]:
        """As many outputs of a new node as ``like`` has entries."""
        attrs = [
            ir.convenience.convert_attribute(name, value)
            for name, value in attributes.items()
            if value is not None
        ]
        while inputs and inputs[-1] is None:
            inputs = inputs[:-1]
        node = ir.Node(domain, op_type, inputs, attrs, num_outputs=len(like))
        # The anchor's name tells which layer this is, and goes on telling it.
        node.name = self._editor.fresh_name(f"{self._base}/{op_type}")
        for output, model in zip(node.outputs, like, strict=True):
            output.name = self._editor.fresh_name(f"{self._base}_{op_type}")
            if model is not None:
                output.type = model.type
                output.shape = None if model.shape is None else model.shape.copy()
        if any(model is None for model in like):
            _infer(node, self.opset)
        assert self._anchor.graph is not None
        self._anchor.graph.insert_before(self._anchor, node)
        return node.outputs

    def constant(self, array: np.ndarray, name: str = "constant") -> ir.Value:
        """A new constant."""
        return self._editor.add_constant(self._anchor, array, f"{self._base}_{name}")


@dataclasses.dataclass(frozen=True)
class Found:
    """A pattern, and what it becomes."""

    rule: str
    build: Callable[[Builder], Sequence[ir.Value] | ir.Value]
    """Writes the new nodes; returns what stands for ``replaces``, in its order."""
    replaces: tuple[ir.Value, ...] = ()
    """The values that are replaced; by default the first output of the anchor."""


@dataclasses.dataclass(frozen=True)
class Miss:
    """A near match that is left alone, and why."""

    rule: str
    reason: str


Answer = Found | Miss | None


@dataclasses.dataclass(frozen=True)
class Rewrite(Pass):
    """Base of the passes that put other operators in the place of some: implement :meth:`look`."""

    preserves: ClassVar[Preserves] = Preserves.ROUNDING
    tolerance: ClassVar[float] = 1e-5
    anchors: ClassVar[frozenset[str]]
    """The standard operators at which the patterns end."""
    min_opset: ClassVar[int] = 13
    """The opset of the operators that are written."""

    @abstractmethod
    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        """Say whether a pattern ends at ``node``, one of the anchors.

        Args:
            node: The anchor.
            sizes: What is known of the graph as it was when the pass came to it.
        """

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Visit every anchor in order, once: a raised operator is no anchor of its own pass."""
        editor = Editor(model)
        for root in queries.roots(model):
            opset = root.opset_imports.get("") or model.opset_imports.get("", 1)
            sizes = Sizes.of(root)
            for node in list(root.all_nodes()):
                if node.graph is None or not queries.is_standard(node, *self.anchors):
                    continue
                if any(attr.is_ref() for attr in node.attributes.values()):
                    continue
                if not any(map(is_used, node.outputs)):
                    continue
                answer = self.look(node, sizes)
                if isinstance(answer, Found) and opset < self.min_opset:
                    answer = Miss(
                        answer.rule,
                        f"needs opset {self.min_opset}, the model has {opset}",
                    )
                if isinstance(answer, Miss):
                    journal.refuse(answer.rule, node, answer.reason)
                elif answer is not None and journal.permits(answer.rule, node):
                    _carry_out(answer, node, editor, opset)
        _import_domains(model)


def _import_domains(model: ir.Model) -> None:
    """Import the domains of operators that were written; each has one version so far."""
    for node in queries.nodes(model):
        if node.domain not in model.opset_imports:
            model.opset_imports[node.domain] = 1


def _carry_out(found: Found, node: ir.Node, editor: Editor, opset: int) -> None:
    built = found.build(Builder(editor, node, opset))
    results = [built] if isinstance(built, ir.Value) else list(built)
    for old, new in zip(found.replaces or node.outputs[:1], results, strict=True):
        editor.replace(old, new)


def _infer(node: ir.Node, opset: int) -> None:
    """Give the outputs of ``node`` the types and shapes that its operator's schema infers."""
    if node.domain != "":
        return
    types: dict[str, onnx.TypeProto] = {}
    data: dict[str, onnx.TensorProto] = {}
    for value in node.inputs:
        if value is None or value.name is None or value.dtype is None:
            continue
        types[value.name] = ir.to_proto(value).type
        tensor = queries.constant_tensor(value)
        if tensor is not None and tensor.size <= 64:
            data[value.name] = ir.to_proto(tensor)
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    proto = ir.to_proto(node)
    imports = [onnx.helper.make_opsetid("", opset)]
    found = onnx.shape_inference.infer_node_outputs(
        schema, proto, types, data, opset_imports=imports
    )
    for output in node.outputs:
        if output.name in found:
            output.type = ir.serde.deserialize_type_proto_for_type(found[output.name])
            output.shape = ir.serde.deserialize_type_proto_for_shape(found[output.name])
