"""fuse-batch-normalization: normalization by constants as part of the weights before it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.matching import input_at, is_read_outside, produced_by
from infopt.passes.rewriting import Answer, Builder, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "batch-normalization"


@dataclasses.dataclass(frozen=True)
class FuseBatchNormalization(Fusion):
    """``BatchNormalization(Conv(x))`` becomes ``Conv(x)`` with other weights and another bias.

    So does one behind a ConvTranspose or a Gemm. In inference it is ``y * s + t`` with constants
    for each channel, ``s = scale / sqrt(variance + epsilon)`` and ``t = bias - mean * s`` (Ioffe
    and Szegedy, arXiv:1502.03167).
    """

    name: ClassVar[str] = "fuse-batch-normalization"
    anchors: ClassVar[frozenset[str]] = frozenset({"BatchNormalization"})
    raises: ClassVar[bool] = False

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        linear = produced_by(node.inputs[0], "Conv", "ConvTranspose", "Gemm")
        if linear is None:
            return None
        if len(node.outputs) > 1 or queries.attribute(node, "training_mode", 0):
            return Miss(RULE, "it is in training mode")
        if is_read_outside(linear.outputs[0], [node]):
            return Miss(RULE, f"the result of the {linear.op_type} is read elsewhere, too")
        constants = [*node.inputs[1:5], linear.inputs[1]]
        bias = input_at(linear, 2)
        if any(queries.constant_tensor(value) is None for value in constants):
            return Miss(RULE, "its parameters or the weights are no constants")
        channels = queries.static_shape(node.inputs[1])
        if bias is not None and (
            queries.constant_tensor(bias) is None or queries.static_shape(bias) != channels
        ):
            return Miss(RULE, f"the bias of the {linear.op_type} is no constant for each channel")
        if any(value is not None and value.dtype != node.outputs[0].dtype for value in constants):
            return Miss(RULE, "its parameters and the weights have different types")
        if linear.op_type == "Gemm" and queries.attribute(linear, "beta", 1.0) != 1.0:
            return Miss(RULE, "the bias of the Gemm is scaled")
        return Found(RULE, lambda to: _folded(to, node, linear))


def _folded(to: Builder, node: ir.Node, linear: ir.Node) -> ir.Value:
    scale, shift, mean, variance = (_array(value) for value in node.inputs[1:5])
    epsilon = queries.attribute(node, "epsilon", 1e-5)
    factor = scale / np.sqrt(variance + epsilon)
    weights, bias = _array(linear.inputs[1]), input_at(linear, 2)
    offset = shift - mean * factor + (0 if bias is None else _array(bias) * factor)
    stored = queries.constant(linear.inputs[1])
    assert stored is not None
    attributes = {name: attr.value for name, attr in linear.attributes.items()}
    return to.op(
        linear.op_type,
        linear.inputs[0],
        to.constant(_by_channel(linear, weights, factor).astype(stored.dtype), "weights"),
        to.constant(offset.astype(stored.dtype), "bias"),
        like=node.outputs[0],
        **attributes,
    )


def _by_channel(linear: ir.Node, weights: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """The weights times a factor for each channel of the result."""
    scaled: np.ndarray
    if linear.op_type == "Gemm":
        rows = queries.attribute(linear, "transB", 0)
        scaled = weights * (factor[:, None] if rows else factor[None, :])
        return scaled
    spatial = (1,) * (weights.ndim - 2)
    if linear.op_type == "Conv":
        scaled = weights * factor.reshape(-1, 1, *spatial)
        return scaled
    # (inputs, outputs / groups, …): each group of inputs has its own part of the outputs
    groups = queries.attribute(linear, "group", 1)
    parts = factor.reshape(groups, 1, -1, *spatial)
    split = weights.reshape(groups, -1, *weights.shape[1:])
    scaled = (split * parts).reshape(weights.shape)
    return scaled


def _array(value: ir.Value | None) -> np.ndarray:
    array = queries.constant(value)
    assert array is not None
    return array.astype(np.float64)
