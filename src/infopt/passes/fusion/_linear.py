"""What a linear layer is: ``MatMul`` with constant weights, and perhaps a constant bias."""

from __future__ import annotations

import dataclasses

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import either_way, input_at, is_read_outside, produced_by


@dataclasses.dataclass(frozen=True)
class Linear:
    """``x · weights + bias``."""

    x: ir.Value
    weights: ir.Value
    """Shape (inputs, outputs)."""
    bias: ir.Value | None
    """Shape (outputs,)."""
    result: ir.Value

    @property
    def width(self) -> int:
        """The number of outputs."""
        shape = queries.static_shape(self.weights)
        assert shape is not None
        return shape[1]


def linear(value: ir.Value | None) -> Linear | None:
    """The linear layer that computes ``value``; its product is read by nothing else."""
    add = produced_by(value, "Add")
    if add is not None:
        for product, bias in either_way(add):
            found = _product(product)
            if found is None or queries.constant_tensor(bias) is None:
                continue
            if queries.static_shape(bias) != (found.width,) or bias.dtype != found.weights.dtype:
                continue
            if is_read_outside(product, [add]):
                continue
            return dataclasses.replace(found, bias=bias, result=add.outputs[0])
    return _product(value)


def _product(value: ir.Value | None) -> Linear | None:
    node = produced_by(value, "MatMul")
    if node is None or node.inputs[0] is None:
        return None
    weights = input_at(node, 1)
    shape = queries.static_shape(weights)
    if weights is None or queries.constant_tensor(weights) is None or shape is None:
        return None
    if len(shape) != 2 or weights.dtype != node.inputs[0].dtype:
        return None
    return Linear(node.inputs[0], weights, None, node.outputs[0])
