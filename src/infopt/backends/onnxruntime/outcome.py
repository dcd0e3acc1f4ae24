"""What ONNX Runtime really makes of an engine: which kernels, on which types."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from infopt.backends.base import Outcome
from infopt.backends.onnxruntime import saturation
from infopt.backends.onnxruntime.runtime import onnxruntime
from infopt.ir import queries
from infopt.passes.editing import operators

INTEGER = operators(
    """
    ConvInteger DynamicQuantizeMatMul MatMulInteger MatMulIntegerToFloat MatMulNBits QAttention
    QGemm QLinearConv QLinearMatMul
    """
)
"""Operators that multiply integers."""

_FLOATING = operators("Conv FusedConv FusedGemm FusedMatMul Gemm MatMul NhwcFusedConv")


def outcome(model_file: Path, without: Sequence[str]) -> Outcome:
    """Load a model as an engine is loaded, and look at the graph that the runtime made of it."""
    ort = onnxruntime()
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="infopt-") as room:
        file = Path(room) / "optimized.onnx"
        settings.optimized_model_filepath = str(file)
        # Nothing is run, so weights need not be there a second time, as a kernel likes them.
        settings.add_session_config_entry("session.disable_prepacking", "1")
        settings.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", "optimized.data"
        )
        with saturation.exact(model_file, "cpu") as exact:
            ort.InferenceSession(
                str(exact),
                settings,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=list(without),
            )
        found = _read(ir.load(file))
    moves = exact != model_file
    return dataclasses.replace(found, advice=(saturation.ADVICE,)) if moves else found


def _read(model: ir.Model) -> Outcome:
    kernels: Counter[str] = Counter()
    floating: list[str] = []
    rounding = 0
    for node in queries.nodes(model):
        kernels[node.op_type] += 1
        rounding += node.op_type in INTEGER and _rounds(node)
        if node.op_type in _FLOATING and _reads_integers(node):
            floating.append(node.name or node.op_type)
    integer = sum(count for name, count in kernels.items() if name in INTEGER)
    return Outcome(dict(kernels.most_common()), integer, tuple(floating), rounding)


def _rounds(node: ir.Node) -> bool:
    """Whether a product finds the ranges of what it reads as it runs, and rounds to them."""
    if node.op_type == "MatMulNBits":
        return queries.attribute(node, "accuracy_level", 0) == 4
    producer = None if node.inputs[0] is None else node.inputs[0].producer()
    dynamic = producer is not None and producer.op_type == "DynamicQuantizeLinear"
    return dynamic or node.op_type == "DynamicQuantizeMatMul"


def _reads_integers(node: ir.Node) -> bool:
    """Whether the weights of ``node`` were integers in the engine."""
    # What it multiplies them by may be rounded, too, and the node kept in float all the same.
    producer = None if node.inputs[1] is None else node.inputs[1].producer()
    return producer is not None and producer.op_type == "DequantizeLinear"
