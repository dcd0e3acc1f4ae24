"""The opset of an engine's file: one in which ONNX Runtime has a kernel for every node.

A kernel is registered for a range of operator versions. Where an operator got a new version
and its kernel did not follow, a model at the newer opset does not load, or falls back to the
processor, although nothing in the operator's meaning changed.
"""

from __future__ import annotations

import onnx_ir as ir

from infopt.errors import OpsetError
from infopt.ir import opset, queries, schemas
from infopt.target import Target

NO_KERNEL_FROM_22 = frozenset(
    {
        "GlobalLpPool",
        "MaxRoiPool",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "RoiAlign",
    }
)
"""Operators whose CPU kernels in ONNX Runtime 1.31 end before version 22."""


def at_runnable_opset(model: ir.Model, target: Target) -> ir.Model:
    """``model`` in the first of the target's opsets that can express it and has its kernels.

    Types count as well: many an operator takes bfloat16 from some version on.

    Where none has, the model stays at infopt's own opset, and the runtime will say what it
    lacks.
    """
    ends_early = any(queries.is_standard(node, *NO_KERNEL_FROM_22) for node in queries.nodes(model))
    for version in target.engine_opsets:
        if ends_early and version >= 22:
            continue
        if version == opset.OPSET:
            return model
        try:
            converted = opset.convert_opset(model.clone(), version)
        except OpsetError:
            continue
        if schemas.allows_halves(converted):
            return converted
    return model
