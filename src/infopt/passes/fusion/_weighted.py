"""Operators with constant weights, whose output channels can be scaled and shifted.

What multiplies a channel of the output goes into the weight and the bias, what is added to it
into the bias. The new constants are computed in float64 and rounded once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import either_way, input_at, is_read_outside, keeps_shape, produced_by
from infopt.passes.rewriting import Builder


@dataclasses.dataclass(frozen=True)
class Weighted:
    """A Conv, ConvTranspose, Gemm or MatMul, and the Add of a bias behind a MatMul."""

    node: ir.Node
    last: ir.Node
    """The node whose output it is: ``node``, or the Add behind it."""
    weight: ir.Value
    bias: ir.Value | None

    @property
    def axis(self) -> int:
        """The axis of the channels in the output, counted from the end."""
        return 1 - len(self._shape) if "Conv" in self.node.op_type else -1

    @property
    def channels(self) -> int:
        """How many channels the output has."""
        if self.node.op_type == "Conv":
            return self._shape[0]
        if self.node.op_type == "ConvTranspose":
            return self._shape[1] * self._group
        return self._shape[0 if self._is_transposed else -1]

    def changed(self, scale: np.ndarray | None, shift: np.ndarray | None) -> Constants | None:
        """Weight and bias of ``scale`` times the result plus ``shift``.

        Both are of float64, with one element or one per channel; ``None`` stands for one and
        zero. Returns ``None`` if the type of the weight cannot hold the new numbers as well as
        it held the old ones.
        """
        weight, bias = None, self._bias()
        if scale is not None:
            weight = self._scaled(scale)
            bias = None if bias is None else bias * scale
        if shift is not None:
            bias = shift if bias is None else bias + shift
        if bias is not None:
            bias = np.broadcast_to(bias, self.channels)
        assert self.weight.dtype is not None
        dtype = self.weight.dtype.numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            rounded = None if bias is None else bias.astype(dtype)
        if (scale is not None and weight is None) or not _is_finite(rounded):
            return None
        return Constants(weight, rounded)

    def rebuilt(self, to: Builder, like: ir.Value, constants: Constants) -> ir.Value:
        """The operator with other constants; its result is of the type and shape of ``like``."""
        x, attributes = self.node.inputs[0], {k: a.value for k, a in self.node.attributes.items()}
        weight = self.weight
        if constants.weight is not None:
            weight = to.constant(constants.weight, "weight")
        bias = None if constants.bias is None else to.constant(constants.bias, "bias")
        if self.node.op_type == "Gemm":
            attributes.pop("beta", None)
        if self.node.op_type != "MatMul" or bias is None:
            return to.op(self.node.op_type, x, weight, bias, like=like, **attributes)
        return to.op("Add", to.op("MatMul", x, weight, like=like), bias, like=like)

    @property
    def _shape(self) -> tuple[int, ...]:
        tensor = queries.constant_tensor(self.weight)
        assert tensor is not None
        return tuple(tensor.shape.numpy())

    @property
    def _group(self) -> int:
        return queries.attribute(self.node, "group", 1)

    @property
    def _is_transposed(self) -> bool:
        return bool(queries.attribute(self.node, "transB", 0))

    def _bias(self) -> np.ndarray | None:
        if self.bias is None:
            return None
        beta = queries.attribute(self.node, "beta", 1.0) if self.node.op_type == "Gemm" else 1.0
        return flat(self.bias) * beta

    def _scaled(self, scale: np.ndarray) -> np.ndarray | None:
        weight = queries.constant(self.weight)
        assert weight is not None
        grouped, factors = weight, np.broadcast_to(scale, self.channels)
        spatial = [1] * (weight.ndim - 2)
        if self.node.op_type == "Conv":
            factors = factors.reshape(-1, 1, *spatial)
        elif self.node.op_type == "ConvTranspose":
            # (inputs, outputs / groups, …): each group of inputs has its own part of the outputs
            grouped = weight.reshape(self._group, -1, *weight.shape[1:])
            factors = factors.reshape(self._group, 1, -1, *spatial)
        elif self._is_transposed:
            factors = factors[:, None]
        scaled = multiplied(grouped, factors)
        return None if scaled is None else scaled.reshape(weight.shape)


@dataclasses.dataclass(frozen=True)
class Constants:
    """A new weight, or ``None`` for the old one, and a new bias, if any."""

    weight: np.ndarray | None
    bias: np.ndarray | None


def weighted(value: ir.Value | None, reader: ir.Node) -> Weighted | str | None:
    """The operator that computes ``value`` for ``reader``; or why it cannot be rewritten."""
    found = _operator(value)
    if found is None or value is None:
        return None
    kind, weight = found.node.op_type, queries.constant_tensor(found.weight)
    if weight is None:
        return None if kind == "MatMul" else f"the weight of the {kind} is not constant"
    if value.dtype is None or not value.dtype.is_floating_point():
        return f"it is computed in {value.dtype}"
    if len(weight.shape) < 2 or 0 in weight.shape.numpy():
        return None
    if found.bias is not None:
        bias = queries.constant_tensor(found.bias)
        if bias is None:
            return f"the bias of the {kind} is not constant"
        if not is_per_channel(bias.shape.numpy(), -1, found.channels):
            return f"the bias of the {kind} is not one number a channel"
    inside = [reader, found.last]
    if any(is_read_outside(each.outputs[0], inside) for each in (found.node, found.last)):
        return f"something else reads what the {kind} computes"
    if found.node.graph is not reader.graph:
        return f"the {kind} is computed outside of this graph, perhaps less often"
    return found


def _operator(value: ir.Value | None) -> Weighted | None:
    node = produced_by(value, "Conv", "ConvTranspose", "Gemm", "MatMul", "Add")
    if node is None:
        return None
    if node.op_type != "Add":
        weight = node.inputs[1]
        return None if weight is None else Weighted(node, node, weight, input_at(node, 2))
    for product, bias in either_way(node):
        inner, shape = produced_by(product, "MatMul"), queries.static_shape(bias)
        weight = None if inner is None else inner.inputs[1]
        if inner is None or weight is None or not keeps_shape(node, product):
            continue
        if queries.constant_tensor(bias) is None or shape is None:
            continue
        if math.prod(shape) == math.prod(shape[-1:]):
            return Weighted(inner, node, weight, bias)
    return None


def is_per_channel(shape: Sequence[int] | None, axis: int, channels: int) -> bool:
    """Whether a constant of this shape has one element, or one for each channel of ``axis``."""
    if shape is None:
        return False
    places = [place for place, length in enumerate(shape, -len(shape)) if length != 1]
    return not places or (places == [axis] and shape[axis] == channels)


def flat(constant: ir.Value | None) -> np.ndarray:
    """The elements of a constant in float64, in a row."""
    array = queries.constant(constant)
    assert array is not None
    return array.astype(np.float64).reshape(-1)


def multiplied(weight: np.ndarray, factors: np.ndarray) -> np.ndarray | None:
    """The product in the type of ``weight``; ``None`` if that cannot hold it as well.

    So it is where a number overflows, or where many become so small that their last bits are
    lost, which happens in float16.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        exact = weight.astype(np.float64) * factors
        rounded = exact.astype(weight.dtype)
        loss = np.abs(rounded.astype(np.float64) - exact)
        eps = float(ml_dtypes.finfo(weight.dtype).eps)  # type: ignore[no-untyped-call]
        allowed = eps * np.abs(factors) * np.abs(weight).max()
    return rounded if _is_finite(rounded) and (loss <= allowed).all() else None


def _is_finite(array: np.ndarray | None) -> bool:
    return array is None or bool(np.isfinite(array).all())
