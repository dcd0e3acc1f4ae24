"""correct-bias: what rounding weights adds to the outputs on average goes out of the bias."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor, erase_unused
from infopt.passes.matching import column_bias, produced_by
from infopt.passes.observed import NOT_OBSERVED, calibration_of, unobserved
from infopt.passes.quantization._sites import Site, channels_axis, site
from infopt.passes.quantization._writer import ORIGINAL, dequantized
from infopt.quant.calibration import Calibration, Request
from infopt.quant.correction import corrected_bias


@dataclasses.dataclass(frozen=True)
class CorrectBias(Pass):
    """The bias of a quantized operator becomes ``b - (Ŵ - W) · E[x]``.

    Rounded weights move the mean of each output channel, by as much as follows from the means of
    the inputs, which a ``calibrate`` before the quantization has observed (Nagel et al.,
    arXiv:1906.04721). The pass stands behind the one that quantizes, in the same pipeline: only
    there is it known which weights the integers were made of.
    """

    name: ClassVar[str] = "correct-bias"
    preserves: ClassVar[Preserves] = Preserves.APPROXIMATE

    def observes(self, model: ir.Model) -> Iterable[Request]:
        for node in model.graph:
            found = site(node)
            if isinstance(found, Site) and found.weights is not None:
                yield Request(found.inputs[0].name or "", "channels", channels_axis(node))

    def apply(self, model: ir.Model, journal: Journal) -> None:
        calibration = calibration_of(model)
        editor = Editor(model)
        corrected: set[ir.Value] = set()
        for node, reader, stored in list(_rounded(model.graph)):
            place = _bias(node)
            if place is None:
                journal.refuse(self.name, node, "it has no bias")
                continue
            shift = _shift(node, reader, stored.meta[ORIGINAL], calibration)
            if isinstance(shift, str):
                journal.refuse(self.name, node, shift)
            elif journal.permits(self.name, node):
                corrected.add(stored)
                _write(*place, shift, editor)
        for stored in corrected:  # at the end: several operators may read the same integers
            del stored.meta[ORIGINAL]
        for graph, reason in unobserved(model):
            for node, _, _ in _rounded(graph):
                journal.refuse(self.name, node, reason)


_DEQUANTIZE = "DequantizeLinear"


def _rounded(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node, ir.Value]]:
    """Operators whose weights became integers, what dequantizes them, and the integers."""
    for node in graph:
        reader = None if len(node.inputs) < 2 else produced_by(node.inputs[1], _DEQUANTIZE)
        stored = None if reader is None else reader.inputs[0]
        if reader is not None and stored is not None and ORIGINAL in stored.meta:
            yield node, reader, stored


def _bias(node: ir.Node) -> tuple[ir.Node, int] | None:
    """Which input of which node the bias is."""
    if queries.is_standard(node, "Conv", "Gemm"):
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        known = queries.constant_tensor(bias) is not None
        return (node, 2) if known or produced_by(bias, _DEQUANTIZE) is not None else None
    shape = queries.static_shape(node.inputs[1]) if queries.is_standard(node, "MatMul") else None
    return None if shape is None else column_bias(node, shape[-1])


def _shift(
    node: ir.Node, reader: ir.Node, original: ir.TensorProtocol, calibration: Calibration
) -> np.ndarray | str:
    """What is added to the bias; or why it is not known."""
    quantizer = produced_by(node.inputs[0], _DEQUANTIZE)
    rounded = None if quantizer is None else produced_by(quantizer.inputs[0], "QuantizeLinear")
    value = node.inputs[0] if rounded is None else rounded.inputs[0]
    channels = calibration.channels(value.name if value else None, channels_axis(node))
    if channels is None:
        return f"{value.name if value else ''!r} {NOT_OBSERVED}"
    before, after = original.numpy(), dequantized(reader)
    if not queries.is_standard(node, "Conv") and not queries.attribute(node, "transB", 0):
        before, after = before.T, after.T
    groups = queries.attribute(node, "group", 1)
    return corrected_bias(before, after, channels.mean, groups=groups)


def _write(node: ir.Node, index: int, shift: np.ndarray, editor: Editor) -> None:
    old = node.inputs[index]
    reader = produced_by(old, _DEQUANTIZE)
    assert old is not None
    if reader is None:
        bias = queries.constant(old)
        assert bias is not None
        sums = bias.astype(np.float64) + shift
        new = editor.add_constant(node, sums.astype(bias.dtype), f"{old.name}_corrected")
        node.replace_input_with(index, new)
        erase_unused(old)
        return
    stored, scale = reader.inputs[0], queries.constant(reader.inputs[1])
    integers = queries.constant(stored)
    assert stored is not None
    assert integers is not None
    assert scale is not None
    limits = np.iinfo(integers.dtype)
    sums = np.rint(integers + shift / scale.astype(np.float64))
    clipped = np.clip(sums, limits.min, limits.max).astype(integers.dtype)
    reader.replace_input_with(0, editor.add_constant(node, clipped, f"{stored.name}_corrected"))
    erase_unused(stored)
