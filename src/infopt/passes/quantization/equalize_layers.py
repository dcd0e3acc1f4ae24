"""equalize-layers: channels that a depthwise convolution reads get ranges alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor, erase_unused
from infopt.passes.matching import input_at, is_read_outside, produced_by, scalar
from infopt.passes.observed import NOT_OBSERVED, calibration_of, unobserved
from infopt.quant.calibration import Calibration, Request

LARGEST = 2.0**10
"""No channel is multiplied by more: one that is nearly always zero tells little of its range."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A convolution, perhaps a Relu or Clip, and the depthwise convolution that alone reads it."""

    first: ir.Node
    second: ir.Node
    between: ir.Value
    """What the second one reads."""
    bound: float | None
    """What the values in between are clipped to; ``None`` where they are not."""


@dataclasses.dataclass(frozen=True)
class EqualizeLayers(Pass):
    """The weights that write a channel are multiplied, those that read it divided by a factor.

    A depthwise convolution has weights of its own, and with them a scale of its own, for each
    channel, while its input has one scale for all: a channel that uses a small part of that range
    is left with few integers. The factors give each channel the range of the largest one, by what
    a ``calibrate`` before the pass has observed (the idea is that of Nagel et al.,
    arXiv:1906.04721, who equalize weights).

    No preset has it: factors that few samples justify clip what other data excites, and an engine
    may then be far off on all but those (docs/design/0009-int8.md has a case).

    A Relu in between commutes with a factor. A Clip to ``[0, b]`` does where the channel stays
    below its bound; a factor is at most ``b`` over the largest value of the channel, so that what
    no sample has shown is clipped to what one has.
    """

    name: ClassVar[str] = "equalize-layers"
    preserves: ClassVar[Preserves] = Preserves.APPROXIMATE
    tolerance: ClassVar[float] = 0.0

    def observes(self, model: ir.Model) -> Iterable[Request]:
        for pair in _pairs(model.graph):
            yield Request(pair.between.name or "", "channels", 1)

    def apply(self, model: ir.Model, journal: Journal) -> None:
        calibration = calibration_of(model)
        editor = Editor(model)
        for pair in list(_pairs(model.graph)):
            factors = _factors(pair, calibration)
            if isinstance(factors, str):
                journal.refuse(self.name, pair.second, factors)
            elif (factors != 1).any() and journal.permits(self.name, pair.second):
                _scale(pair.first, 1, factors, editor)
                _scale(pair.first, 2, factors, editor)
                repeated = np.repeat(factors, _outputs(pair.second) // factors.size)
                _scale(pair.second, 1, 1 / repeated, editor)
        for graph, reason in unobserved(model):
            for pair in _pairs(graph):
                journal.refuse(self.name, pair.second, reason)


def _pairs(graph: ir.Graph) -> Iterable[Pair]:
    for second in graph:
        between = second.inputs[0] if queries.is_standard(second, "Conv") else None
        if between is None or not _is_depthwise(second):
            continue
        function = produced_by(between, "Relu", "Clip")
        bound = None
        if function is not None:
            if function.op_type == "Clip":
                bound = scalar(input_at(function, 2))
                if scalar(input_at(function, 1)) != 0.0 or bound is None:
                    continue
            if is_read_outside(between, [second]):
                continue
            between_first = function.inputs[0]
        else:
            between_first = between
        first = produced_by(between_first, "Conv")
        reader = second if function is None else function
        if first is None or between_first is None or is_read_outside(between_first, [reader]):
            continue
        if all(queries.constant_tensor(value) is not None for value in first.inputs[1:]):
            yield Pair(first, second, between, bound)


def _is_depthwise(node: ir.Node) -> bool:
    shape = queries.static_shape(node.inputs[1])
    if queries.constant_tensor(node.inputs[1]) is None or shape is None:
        return False
    return shape[1] == 1 and queries.attribute(node, "group", 1) > 1


def _outputs(node: ir.Node) -> int:
    shape = queries.static_shape(node.inputs[1])
    assert shape is not None
    return shape[0]


def _factors(pair: Pair, calibration: Calibration) -> np.ndarray | str:
    """float64 (channels,): what each channel is multiplied by; or why that is not known."""
    channels = calibration.channels(pair.between.name, 1)
    if channels is None:
        return f"{pair.between.name!r} {NOT_OBSERVED}"
    if channels.nonfinite:
        return f"{pair.between.name!r} was infinite or not a number during calibration"
    largest = channels.magnitude.astype(np.float64)
    limit = largest.max(initial=0.0) if pair.bound is None else pair.bound
    some = largest > 0
    factors = np.ones_like(largest)
    factors[some] = np.clip(limit / largest[some], 1.0, LARGEST)
    return factors


def _scale(node: ir.Node, index: int, factors: np.ndarray, editor: Editor) -> None:
    """Multiply weights or a bias by a factor for each output."""
    old = input_at(node, index)
    array = queries.constant(old)
    if old is None or array is None:
        return
    wide = factors.reshape(-1, *[1] * (array.ndim - 1))
    new = editor.add_constant(node, (array * wide).astype(array.dtype), f"{old.name}_equalized")
    node.replace_input_with(index, new)
    erase_unused(old)
