"""fold-constants: compute now what is always the same."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.cleanup._evaluate import Array, CannotEvaluateError, evaluate
from infopt.passes.editing import (
    RANDOM,
    Editor,
    is_used,
    operators,
    value_names,
)

EXPLICIT = operators("DequantizeLinear DynamicQuantizeLinear QuantizeLinear")
"""What quantizes is written into the graph on purpose."""
COPY_BELOW = 1 << 20
"""A view of an operand is copied where it has fewer bytes: small constants are their own."""
LAZY_ABOVE = 1 << 24
"""A result with more bytes is not kept, but computed again where it is read."""


@dataclasses.dataclass(frozen=True)
class FoldConstants(Pass):
    """A node with constant inputs becomes a constant, an If with constant condition its branch.

    ``y = Add(two, three)`` becomes an initializer ``y``. No fold makes the model larger: the
    result has at most as many bytes as the constants that it makes superfluous, or at most
    ``limit``. A fold that only moves a large weight (Transpose, Reshape, Slice) is a view of
    the weight; another large result is not kept, but computed again where it is read.

    Random operators, quantization and what nobody can know (a float outside of the integer it
    is cast to) stay. ``limit`` is in bytes.
    """

    name: ClassVar[str] = "fold-constants"
    preserves: ClassVar[Preserves] = Preserves.ROUNDING
    tolerance: ClassVar[float] = 1e-5

    limit: int = 4096

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Fold until nothing more can be folded."""
        run = _Run(self.limit, model, journal)
        while run.sweep():
            pass
        for node, reason in run.refused.items():
            journal.refuse("fold", node, reason)


class _Run:
    """One run of the pass."""

    def __init__(self, limit: int, model: ir.Model, journal: Journal) -> None:
        self._limit = limit
        self._model = model
        self._journal = journal
        self._editor = Editor(model)
        self.refused: dict[ir.Node, str] = {}
        """What the last sweep refused: a fold may leave an operand to one reader alone, which
        then may do what it might not do before."""

    def sweep(self) -> bool:
        """Visit every node once; whether anything changed."""
        before = len(self._journal.changes)
        self.refused = {}
        for root in queries.roots(self._model):
            opset = root.opset_imports.get("") or self._model.opset_imports.get("", 1)
            for node in list(root.all_nodes()):
                if node.graph is not None and node.domain == "" and node.op_type != "Constant":
                    self._visit(node, opset)
        return len(self._journal.changes) > before

    def _visit(self, node: ir.Node, opset: int) -> None:
        if node.op_type == "If":
            self._take_branch(node)
            return
        tensors = []
        for index, value in enumerate(node.inputs):
            tensor = queries.constant_tensor(value)
            only_its_type = node.op_type == "CastLike" and index == 1
            if tensor is None and value is not None and not only_its_type:
                return
            tensors.append(tensor)
        if not any(map(is_used, node.outputs)):
            return
        reason = _why_not(node) or self._fold(node, tensors, opset)
        if reason is not None:
            self.refused[node] = reason

    def _fold(
        self, node: ir.Node, tensors: list[ir.TensorProtocol | None], opset: int
    ) -> str | None:
        """Fold one node; the reason where that cannot be done."""
        budget = max(self._limit, _freed_bytes(node))
        arrays = [None if tensor is None else tensor.numpy() for tensor in tensors]
        try:
            results = evaluate(node, arrays, opset, max_elements=2 * budget)
        except CannotEvaluateError as error:
            return str(error)
        constants: list[tuple[ir.Value, ir.TensorProtocol]] = []
        for index, (value, array) in enumerate(zip(node.outputs, results, strict=True)):
            if not is_used(value):
                continue
            tensor: ir.TensorProtocol = ir.Tensor(array)
            if array.nbytes <= COPY_BELOW:
                tensor = ir.Tensor(np.array(array, order="C"))
            elif array.nbytes > LAZY_ABOVE and not _is_view(array, arrays):
                tensor = _on_demand(node, tensors, opset, index, tensor)
            if value.dtype not in (None, tensor.dtype):
                return f"it evaluates to {tensor.dtype} where the model says {value.dtype}"
            constants.append((value, tensor))
        size = sum(tensor.nbytes for _, tensor in constants)
        if size > budget:
            return f"its {size} bytes are more than the {budget} that it may take; raise the limit"
        if not self._journal.permits("fold", node):
            return None
        for value, tensor in constants:
            self._editor.make_constant(value, tensor)
        return None

    def _take_branch(self, node: ir.Node) -> None:
        """Replace an If whose condition is constant by the branch that is always taken."""
        condition = queries.constant(node.inputs[0])
        graph = node.graph
        if condition is None or graph is None or not self._journal.permits("take-branch", node):
            return
        branch = node.attributes["then_branch" if condition.item() else "else_branch"].as_graph()
        uses_of_name = Counter(value_names(self._model))
        results = list(branch.outputs)
        branch.outputs.clear()
        constants: dict[ir.Value, ir.Value] = {}
        for name, value in list(branch.initializers.items()):
            assert value.const_value is not None
            branch.initializers.pop(name)
            constants[value] = self._editor.add_tensor(node, value.const_value, name)
            value.replace_all_uses_with(constants[value])
        nodes = list(branch)
        branch.remove(nodes)
        for output in (output for inner in nodes for output in inner.outputs):
            # Two branches may use a name that no graph around them may use.
            if output.name and uses_of_name[output.name] > 1:
                output.name = self._editor.fresh_name(output.name)
        graph.insert_before(node, nodes)
        self._editor.splice(node, [constants.get(result, result) for result in results])


def _is_view(array: Array, operands: Sequence[Array | None]) -> bool:
    return any(x is not None and np.may_share_memory(array, x) for x in operands)


def _on_demand(
    node: ir.Node,
    tensors: Sequence[ir.TensorProtocol | None],
    opset: int,
    index: int,
    result: ir.TensorProtocol,
) -> ir.TensorProtocol:
    """The tensor ``result``, which is output ``index`` of ``node``, without its data."""
    size, shape = result.size, ir.Shape(result.shape.numpy())

    def compute() -> ir.TensorProtocol:
        arrays = [None if tensor is None else tensor.numpy() for tensor in tensors]
        return ir.Tensor(evaluate(node, arrays, opset, max_elements=max(1, size))[index])

    return ir.LazyTensor(compute, result.dtype, shape)


def _why_not(node: ir.Node) -> str | None:
    """Why a node with constant inputs is left alone on principle."""
    if node.op_type in RANDOM:
        return f"{node.op_type} draws another result in each run"
    if node.op_type in EXPLICIT:
        return f"{node.op_type} says what is quantized; the precision passes own it"
    if any(True for _ in queries.subgraphs_of(node)):
        return f"{node.op_type} runs a graph"
    return None


def _freed_bytes(node: ir.Node) -> int:
    """The bytes of the constants that only ``node`` reads."""
    freed = 0
    for value in dict.fromkeys(node.inputs):
        if value is None or value.is_graph_output() or value.consumers() != (node,):
            continue
        tensor = queries.constant_tensor(value)
        freed += 0 if tensor is None else tensor.nbytes
    return freed
