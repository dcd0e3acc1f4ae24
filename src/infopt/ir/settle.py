"""Static shapes that follow from static inputs, shape arithmetic included.

onnx's own inference gives up where a shape is computed by more than a few operators, as
exporters love to do (Shape → Gather → Unsqueeze → Concat → Reshape). Once the inputs have
sizes, such chains are plain numbers: this walks the graph forwards, computes every small
value that does not depend on data, and lets onnx infer each node with those values at hand.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from infopt.ir import queries

MAX_ELEMENTS = 1024
"""Larger values are data, not shapes; they are not computed."""


def settle_shapes(model: ir.Model) -> None:
    """Give the values of ``model`` the static shapes that follow from its inputs, in place.

    What cannot be known (a size that depends on data, an operator without a definition)
    stays unknown. Bodies of functions are left alone; inline them first.
    """
    _Walk(model).graph(model.graph)


class _Walk:
    def __init__(self, model: ir.Model) -> None:
        self._opsets = [
            helper.make_opsetid(domain, version)
            for domain, version in model.graph.opset_imports.items()
        ]
        self._versions = dict(model.graph.opset_imports)
        self._known: dict[ir.Value, np.ndarray] = {}

    def graph(self, graph: ir.Graph) -> None:
        for node in graph:
            for subgraph in queries.subgraphs_of(node):
                self.graph(subgraph)
            if any(queries.static_shape(value) is None for value in node.outputs):
                self._infer(node)
            self._compute(node)

    def _value(self, value: ir.Value | None) -> np.ndarray | None:
        """The small array that ``value`` always is, or ``None``."""
        if value is None:
            return None
        if value in self._known:
            return self._known[value]
        tensor = queries.constant_tensor(value)
        if tensor is None or tensor.size > MAX_ELEMENTS:
            return None
        return tensor.numpy()

    def _infer(self, node: ir.Node) -> None:
        if queries.is_standard(node, "If"):
            self._adopt_branch(node)
            return
        types, data = {}, {}
        for value in node.inputs:
            if value is None or value.name is None:
                continue
            if value.dtype is None or not isinstance(value.type, ir.TensorType):
                return
            types[value.name] = helper.make_tensor_type_proto(
                int(value.dtype),
                None if value.shape is None else [_dim(dim) for dim in value.shape],
            )
            array = self._value(value)
            if array is not None:
                data[value.name] = numpy_helper.from_array(np.array(array), value.name)
        try:
            schema = onnx.defs.get_schema(node.op_type, self._versions[node.domain], node.domain)
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, ir.to_proto(node), types, data, opset_imports=self._opsets
            )
        except Exception:  # whatever onnx says: this node's shapes stay unknown
            return
        for value in node.outputs:
            proto = inferred.get(value.name or "")
            if proto is None:
                continue
            if value.type is None:
                value.type = ir.serde.deserialize_type_proto_for_type(proto)
            shape = ir.serde.deserialize_type_proto_for_shape(proto)
            if shape is not None and (value.shape is None or shape.is_static()):
                value.shape = shape

    def _adopt_branch(self, node: ir.Node) -> None:
        """The outputs of an If are those of the branch that runs, or of both if they agree."""
        branches = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
        condition = self._value(node.inputs[0])
        if condition is not None and condition.size == 1:
            branches = [branches[0] if condition.item() else branches[1]]
        for value, *ends in zip(node.outputs, *(b.outputs for b in branches), strict=True):
            shapes = {queries.static_shape(end) for end in ends}
            if len(shapes) == 1 and None not in shapes:
                value.type, value.shape = ends[0].type, ends[0].shape

    def _compute(self, node: ir.Node) -> None:
        """Compute the outputs of ``node`` if they are small and no data is needed for it."""
        if node.domain != "" or any(queries.subgraphs_of(node)) or node.op_type == "Constant":
            return
        if not all(0 <= _size(value) <= MAX_ELEMENTS for value in node.outputs):
            return
        feeds: dict[str, np.ndarray] = {}
        for value in node.inputs:
            if value is None or value.name is None:
                continue
            array = self._value(value)
            if array is None and node.op_type in ("Shape", "Size"):
                shape = queries.static_shape(value)
                # Only its shape is read: an array of that shape that takes no memory.
                array = None if shape is None else np.broadcast_to(np.zeros((), np.bool_), shape)
            if array is None:
                return
            feeds[value.name] = array
        for value, array in zip(node.outputs, self._run(node, feeds), strict=False):
            self._known[value] = array

    def _run(self, node: ir.Node, feeds: dict[str, np.ndarray]) -> Sequence[np.ndarray]:
        function = helper.make_function(
            "infopt",
            "one",
            list(feeds),
            [value.name or "" for value in node.outputs],
            [ir.to_proto(node)],
            self._opsets,
        )
        try:
            with np.errstate(all="ignore"):
                results = ReferenceEvaluator(function).run(None, feeds, attributes={})
        except Exception:  # the reference has no such operator, or not for these types
            return ()
        return [np.asarray(result) for result in results]


def _dim(dim: int | ir.SymbolicDim) -> int | str | None:
    return dim if isinstance(dim, int) else dim.value


def _size(value: ir.Value) -> int:
    shape = queries.static_shape(value)
    return -1 if shape is None else int(np.prod(shape))
