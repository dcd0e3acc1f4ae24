"""fuse-batch-normalization: its constants go into the weights of the operator in front of it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.editing import is_used
from infopt.passes.fusion._fusion import Fusion
from infopt.passes.fusion._weighted import weighted
from infopt.passes.rewriting import Answer, Found, Miss
from infopt.passes.sizes import Sizes

RULE = "batch-normalization"


@dataclasses.dataclass(frozen=True)
class FuseBatchNormalization(Fusion):
    """``BatchNormalization(Conv(x, W, b))`` becomes ``Conv(x, W', b')``.

    With constant parameters, inference computes ``s * (v - mean) + bias`` for each channel,
    where ``s`` is ``scale / sqrt(variance + epsilon)``: so ``W'`` is ``s * W``, and ``b'`` is
    ``s * (b - mean) + bias`` (Ioffe and Szegedy, arXiv:1502.03167). The same goes for
    ConvTranspose, Gemm, and for a MatMul of matrices with or without the Add of a bias. A
    normalization behind anything else stays.
    """

    name: ClassVar[str] = "fuse-batch-normalization"
    anchors: ClassVar[frozenset[str]] = frozenset({"BatchNormalization"})
    raises: ClassVar[bool] = False

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        x, output = node.inputs[0], node.outputs[0]
        found = weighted(x, node)
        if found is None or x is None:
            return None
        if isinstance(found, str):
            return Miss(RULE, found)
        if queries.attribute(node, "training_mode", 0) or any(map(is_used, node.outputs[1:])):
            return Miss(RULE, "it is in training mode")
        if found.axis == -1 and sizes.rank(x) != 2:
            return Miss(RULE, f"its channels are not those of the {found.node.op_type}")
        arrays = [queries.constant(value) for value in node.inputs[1:5]]
        constants = [array.astype(np.float64) for array in arrays if array is not None]
        if len(constants) != 4:
            return Miss(RULE, "its parameters are not constant")
        if any(array.shape != (found.channels,) for array in constants):
            return Miss(RULE, f"its parameters are not of {found.channels} channels")
        weight, bias, mean, variance = constants
        with np.errstate(all="ignore"):
            scale = weight / np.sqrt(variance + queries.attribute(node, "epsilon", 1e-5))
            changed = found.changed(scale, bias - mean * scale)
        if changed is None:
            return Miss(RULE, f"the weights that it would make are no numbers of {x.dtype}")
        return Found(RULE, lambda to: found.rebuilt(to, output, changed))
