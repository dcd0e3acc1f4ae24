"""quantize-biases: biases beside integers become integers, too."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor
from infopt.passes.matching import input_at, produced_by
from infopt.passes.quantization._writer import Writer
from infopt.quant.affine import Parameters

RULE = "bias"
BIAS = 2
_LIMITS = np.iinfo(np.int32)


@dataclasses.dataclass(frozen=True)
class QuantizeBiases(Pass):
    """The bias of a Conv or Gemm of dequantized integers becomes ``DequantizeLinear(int32)``.

    Its scale is that of the sums, the product of the scales of input and weights, so that it is
    wrong by half a unit of these at most. Runtimes compute such operators with integers, and those
    whose bias is a float with floats (Jacob et al., arXiv:1712.05877, 2.4). Models that were
    trained to be quantized come with float biases.
    """

    name: ClassVar[str] = "quantize-biases"
    preserves: ClassVar[Preserves] = Preserves.APPROXIMATE
    rounding: ClassVar[float] = 1 / 255

    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Visit every Conv and Gemm that has a constant bias."""
        writer = Writer(Editor(model))
        for root in queries.roots(model):
            for node in list(root.all_nodes()):
                if node.graph is None or not queries.is_standard(node, "Conv", "Gemm"):
                    continue
                if any(attr.is_ref() for attr in node.attributes.values()):
                    continue
                bias, units = queries.constant(input_at(node, BIAS)), _units(node)
                if bias is None or units is None:
                    continue
                integers = units if isinstance(units, str) else _integers(bias, units)
                if isinstance(integers, str):
                    journal.refuse(RULE, node, integers)
                elif journal.permits(RULE, node):
                    assert not isinstance(units, str)
                    scales = Parameters(units, np.zeros(units.shape, np.int32))
                    writer.constant(node, BIAS, integers, scales, 0)


def _units(node: ir.Node) -> np.ndarray | str | None:
    """What a one among the sums of ``node`` stands for: float32 (outputs,); or why that is unknown.

    ``None`` where no integers are multiplied.
    """
    read = [produced_by(value, "DequantizeLinear") for value in node.inputs[:BIAS]]
    x, weights = read
    if x is None or weights is None or queries.constant_tensor(weights.inputs[0]) is None:
        return None
    if node.op_type == "Gemm" and (
        queries.attribute(node, "alpha", 1.0) != 1.0
        or queries.attribute(node, "beta", 1.0) != 1.0
        or queries.attribute(node, "transA", 0)
    ):
        return "it scales the product or transposes its input"
    scale, scales = (queries.constant(each.inputs[1]) for each in (x, weights))
    shape = queries.static_shape(weights.inputs[0])
    if scale is None or scales is None or shape is None:
        return "a scale is computed at run time"
    if scale.size != 1:
        return "its input has more than one scale"
    outputs = 0 if node.op_type == "Conv" or queries.attribute(node, "transB", 0) else 1
    along = queries.attribute(weights, "axis", 1) % len(shape) == outputs
    if scales.size != 1 and not (along and scales.shape == (shape[outputs],)):
        return "its weights have scales, but not one for each output"
    product = scale.astype(np.float64).reshape(()) * scales.astype(np.float64).reshape(-1)
    return np.broadcast_to(product.astype(np.float32), (shape[outputs],)).copy()


def _integers(bias: np.ndarray, units: np.ndarray) -> np.ndarray | str:
    """``bias`` in ``units``: int32 (outputs,); or why that cannot be."""
    if bias.shape != units.shape:
        return "its bias is not one number for each output"
    with np.errstate(all="ignore"):
        integers = np.rint(bias.astype(np.float64) / units)
    if not np.all(np.abs(integers) <= _LIMITS.max):  # nor where a scale is 0
        return "its bias does not fit into 32 bits"
    found: np.ndarray = integers.astype(np.int32)
    return found
