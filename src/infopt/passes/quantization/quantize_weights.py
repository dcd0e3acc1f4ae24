"""quantize-weights: the weights of linear layers as 4 or 8 bits, everything else as it was."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.errors import QuantizationError, nearest
from infopt.ir import queries
from infopt.passes.base import Journal, Preserves
from infopt.passes.editing import Editor
from infopt.passes.keeping import KEPT, Keeping
from infopt.passes.matching import produced_by
from infopt.passes.observed import NOT_OBSERVED, calibration_of, unobserved
from infopt.passes.quantization import _channels
from infopt.passes.quantization._rounding import (
    ALGORITHMS,
    GAVE_UP,
    OBSERVING,
    few_rows,
    round_weight,
    spec_of,
)
from infopt.passes.quantization._sites import Site, in_main_graph, rows, site
from infopt.passes.quantization._writer import Writer
from infopt.quant.affine import Parameters
from infopt.quant.calibration import Calibration, Request
from infopt.quant.rounding.awq import search_scale
from infopt.quant.spec import QuantSpec

_OPERATORS = ("MatMul", "Gemm")
_SCALES = "input-scales"
_READS_TOO = "it reads the weights of a product, too, and goes on reading them as floats"
_INSTEAD = "algorithm=hqq and algorithm=nearest need no data"


_Key = tuple[ir.Value, int, int, ir.Value | None]
"""Weights, the axis of their output channels, a graph, and the input if rounding depends on it."""


@dataclasses.dataclass
class _Observed:
    """What is known of the input of some layers."""

    moment: np.ndarray
    """float64 ``(in, in)``: its mean second moment."""
    magnitude: np.ndarray | None
    """float64 ``(in,)``: the mean of ``|x|``, if that was asked for."""
    doubts: Sequence[str] = ()
    """What the user should know of it."""


@dataclasses.dataclass(frozen=True)
class QuantizeWeights(Keeping):
    """Products read ``DequantizeLinear<axis, block_size>(integers, scales, zero points)``.

    Each ``block`` inputs of an output channel share a scale. ``algorithm`` says how weights are
    rounded: ``nearest``; ``hqq`` (Badri and Shaji, 2023), which needs zero points; ``gptq``
    (arXiv:2210.17323), which makes up for each error in the weights still to come; ``awq``
    (arXiv:2306.00978), which scales inputs and clips ranges. The last two ask a ``calibrate`` in
    front for the second moments of the inputs.

    The scales of ``awq`` are one change, which all layers of an input share: their weights are
    multiplied, and what computes the input is divided (a normalization, a linear layer, the one
    through a Relu, a gate or an attention), where that is exact and nothing else reads it.
    Elsewhere a Mul does it, unless ``multiply`` is off. Weights that a Gather reads, too (tied
    embeddings), stay as they are for the Gather.
    """

    name: ClassVar[str] = "quantize-weights"
    preserves: ClassVar[Preserves] = Preserves.APPROXIMATE

    bits: int = 4
    """4 or 8."""
    block: int = 32
    """How many inputs share a scale; the last block of a channel may be shorter."""
    algorithm: str = "nearest"
    """``nearest``, ``hqq``, ``gptq`` or ``awq``."""
    symmetric: bool = False
    """Whether ranges lie around zero, so that there are no zero points."""
    smallest: int = 4096
    """The least number of elements: below, integers save nothing worth an error."""
    whole_blocks: bool = False
    """Whether to leave alone a layer whose inputs the block does not divide."""
    multiply: bool = True
    """Whether ``awq`` may multiply an input at run time."""

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise QuantizationError(f"weights are quantized to 4 or 8 bits, not {self.bits}")
        if self.algorithm not in ALGORITHMS:
            raise QuantizationError(
                f"weights are not rounded by {self.algorithm!r}"
                f"{nearest(self.algorithm, ALGORITHMS)}; use one of {', '.join(ALGORITHMS)}"
            )
        if self.algorithm == "hqq" and self.symmetric:
            raise QuantizationError("hqq looks for zero points; leave symmetric off")
        spec_of(self.bits, self.block, symmetric=self.symmetric)

    def observes(self, model: ir.Model) -> Iterable[Request]:
        if self.algorithm not in OBSERVING:
            return
        for group in self._groups(model):
            x = group[0].inputs[0]
            if queries.constant_tensor(x) is None and in_main_graph(x, model):
                yield Request(x.name or "", "moments", -1)
                if self.algorithm == "awq":
                    yield Request(x.name or "", "channels", -1)

    def apply(self, model: ir.Model, journal: Journal) -> None:
        calibration = calibration_of(model)
        editor = Editor(model)
        written: dict[_Key, ir.Value] = {}
        hidden = {id(graph): reason for graph, reason in unobserved(model, _INSTEAD)}
        for group in self._groups(model, journal):
            x, graph = group[0].inputs[0], id(group[0].node.graph)
            # A value of the main graph is observed wherever it is read. Others have none of its
            # names, but functions may have.
            unknown = None if in_main_graph(x, model) else hidden[graph]
            observed = self._observed(x, unknown, calibration)
            if isinstance(observed, str):
                for found in group:
                    journal.refuse(self.name, found.node, observed)
                continue
            group = [found for found in group if _is_finite(found, journal)]
            if group and observed is not None and self.algorithm == "awq":
                observed = self._scale_inputs(group, observed, editor, journal)
            for found in group:
                if journal.permits(self.name, found.node):
                    for note in () if observed is None else observed.doubts:
                        journal.refuse(self.algorithm, found.node, note)
                    self._quantize(found, observed, Writer(editor), written, journal)

    @property
    def _spec(self) -> QuantSpec:
        return spec_of(self.bits, self.block, symmetric=self.symmetric)

    def _groups(self, model: ir.Model, journal: Journal | None = None) -> list[list[Site]]:
        """The layers to quantize, those of one input together; near misses go to the journal."""
        groups: dict[tuple[ir.Value, int], list[Site]] = {}
        # What is observed does not depend on what is kept: a search does not observe again.
        kept = frozenset() if journal is None else self.kept(model)
        for node in list(queries.nodes(model)):
            if not queries.is_standard(node, *_OPERATORS):
                continue
            if produced_by(node.inputs[1], "DequantizeLinear") is not None:
                continue
            found = self._site(node)
            if isinstance(found, Site) and journal is not None and node.name in kept:
                journal.refuse(self.name, node, KEPT)
            elif isinstance(found, Site):
                groups.setdefault((found.inputs[0], id(node.graph)), []).append(found)
            elif found is not None and journal is not None:
                journal.refuse(self.name, node, found)
        return list(groups.values())

    def _site(self, node: ir.Node) -> Site | str | None:
        found = site(node)
        if not isinstance(found, Site):
            return found
        weights = node.inputs[1]
        shape = queries.static_shape(weights)
        assert weights is not None
        if weights.dtype != ir.DataType.FLOAT or shape is None:
            return f"its weights are {weights.dtype}, not float, or of unknown shape"
        if len(shape) != 2:
            return f"its weights have rank {len(shape)}, not 2"
        elements, inputs = shape[0] * shape[1], shape[1 - found.axis]
        if elements < self.smallest:
            return f"its weights have {elements:,} elements, fewer than {self.smallest:,}"
        if self.whole_blocks and inputs % self.block:
            return f"its {inputs:,} inputs do not fill blocks of {self.block}"
        return found

    def _observed(
        self, x: ir.Value, unknown: str | None, calibration: Calibration
    ) -> _Observed | str | None:
        """What is known of an input; in words, why nothing is; ``None`` if nothing need be."""
        if self.algorithm not in OBSERVING:
            return None
        if unknown is not None:
            return unknown
        moment, channels = calibration.moments(x.name, -1), calibration.channels(x.name, -1)
        if moment is None or (channels is None and self.algorithm == "awq"):
            return f"{x.name!r} {NOT_OBSERVED}"
        if not moment.rows:
            return f"{x.name!r} was empty, infinite or not a number in all samples"
        magnitude = None if channels is None else channels.mean_magnitude
        return _Observed(moment.mean, magnitude, few_rows(x, moment))

    def _scale_inputs(
        self, group: Sequence[Site], observed: _Observed, editor: Editor, journal: Journal
    ) -> _Observed:
        """Multiply the weights of all layers of an input, and divide the input; as AWQ does."""
        x, nodes = group[0].inputs[0], [found.node for found in group]
        stacked = np.concatenate([rows(found) for found in group])
        assert observed.magnitude is not None
        scale = search_scale(stacked, observed.moment, observed.magnitude, self._spec)
        if np.all(scale == 1):
            return observed
        plan = _channels.plan(x, nodes)
        if isinstance(plan, str) and not self.multiply:
            journal.refuse(_SCALES, nodes[0], f"{x.name!r} cannot be divided: {plan}")
            return observed
        if not journal.permits(_SCALES, nodes[0]):
            return observed
        if isinstance(plan, str):
            _channels.divide_at_run_time(x, nodes, scale, editor)
        else:
            _channels.divide(plan, scale, editor)
        for found in group:
            along = scale if found.axis == 0 else scale[:, None]
            Writer(editor).multiplied(found.node, 1, along)
        return dataclasses.replace(observed, moment=observed.moment / np.outer(scale, scale))

    def _quantize(
        self,
        found: Site,
        observed: _Observed | None,
        writer: Writer,
        written: dict[_Key, ir.Value],
        journal: Journal,
    ) -> None:
        """Let a layer read integers; layers that share weights, and an input if that matters, too.

        Who goes on reading the weights as they were is told to the journal.
        """
        node, weights = found.node, found.node.inputs[1]
        assert weights is not None
        key = weights, found.axis, id(node.graph), found.inputs[0] if observed else None
        if key in written:
            writer.reread(node, 1, written[key])
            return
        moment = None if observed is None else observed.moment
        integers, parameters, gave_up = round_weight(
            rows(found), self._spec, self.algorithm, moment
        )
        if gave_up:
            journal.refuse(self.algorithm, node, GAVE_UP)
        if found.axis == 1:
            integers = integers.T
            parameters = Parameters(parameters.scale.T, parameters.zero_point.T)
        new = writer.blocks(node, 1, integers, parameters, 1 - found.axis, self.block)
        _release(weights)
        if not weights.uses():
            return
        written[key] = new
        for use in weights.uses():
            if use.node.op_type not in _OPERATORS:
                journal.refuse(self.name, use.node, _READS_TOO)


def _release(weights: ir.Value) -> None:
    """Unmap weights that lie in a file, so that they take no memory any more."""
    if isinstance(weights.const_value, ir.ExternalTensor):
        with contextlib.suppress(BufferError):  # somebody else looks at it: let it be
            weights.const_value.release()


def _is_finite(found: Site, journal: Journal) -> bool:
    weights = rows(found)
    # A sum is infinite or no number where an element is; in float64 no other is.
    finite = bool(np.isfinite(weights.sum(dtype=np.float64)))
    if not finite:
        journal.refuse(QuantizeWeights.name, found.node, "its weights are not all finite")
    return finite
