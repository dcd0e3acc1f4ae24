"""smooth-quant: channels of an input that stand out move into the weights that read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.errors import QuantizationError
from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.editing import Editor
from infopt.passes.observed import NOT_OBSERVED, calibration_of
from infopt.passes.quantization import _channels
from infopt.passes.quantization._sites import Site, in_main_graph, rows, site
from infopt.passes.quantization._writer import Writer
from infopt.quant.calibration import Calibration, Request
from infopt.quant.smoothing import expected_noise, smooth_factors

_OPERATORS = ("MatMul", "Gemm")
SETTLED = 1e-3
"""Factors of less than this part more or less than 1 are roundings of 1."""


@dataclasses.dataclass(frozen=True)
class SmoothQuant(Pass):
    """``x · W`` becomes ``(x / s) · (s W)``, with a factor ``s`` for each channel of ``x``.

    An activation has one scale for all its channels; a few that are far larger than the others
    leave those few integers. The weights, whose inputs they become, have room for them. How much
    moves follows from what a ``calibrate`` before the pass has observed (Xiao et al.,
    arXiv:2211.10438); another one has to follow, since ranges are others then.

    What computes ``x`` is divided, where that is exact and only the products of ``x`` read it: a
    normalization, a linear layer, the one through a Relu, a gate or an attention. Elsewhere a Mul
    is written in front of the products, if ``multiply`` allows it.
    """

    name: ClassVar[str] = "smooth-quant"
    preserves: ClassVar[Preserves] = Preserves.ROUNDING
    tolerance: ClassVar[float] = 1e-5

    alpha: float = 0.5
    """How much of a channel's range moves: from 0, that of its weights alone counts, to 1."""
    multiply: bool = False
    """Whether an input may be multiplied at run time."""
    worth: float = 0.5
    """How much of the noise of 8 bits may be left, by estimate, for it to pay."""
    rows: int = 2048
    """In how many rows an input has to be seen: a few tell little of the extremes of a channel."""

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise QuantizationError(f"alpha lies within [0, 1], not {self.alpha:g}")

    def observes(self, model: ir.Model) -> Iterable[Request]:
        for group in _groups(model):
            x = group[0].inputs[0]
            if in_main_graph(x, model):
                yield Request(x.name or "", "channels", -1)

    def apply(self, model: ir.Model, journal: Journal) -> None:
        calibration = calibration_of(model)
        editor = Editor(model)
        # The last layers first: dividing what a layer writes changes its weights, and with them
        # the factors of what it reads. So a second run finds nothing to do.
        for group in reversed(_groups(model, journal)):
            factors = self._factors(group, calibration)
            if isinstance(factors, str):
                journal.refuse(self.name, group[0].node, factors)
            elif (factors != 1).any():
                self._smooth(group, factors, editor, journal)

    def _factors(self, group: Sequence[Site], calibration: Calibration) -> np.ndarray | str:
        """float32 (channels,): what the input of these products is divided by; or why not."""
        x = group[0].inputs[0]
        channels = calibration.channels(x.name, -1)
        if channels is None:
            return f"{x.name!r} {NOT_OBSERVED}"
        if channels.nonfinite:
            return f"{x.name!r} was infinite or not a number during calibration"
        if channels.count.min(initial=self.rows) < self.rows:
            return f"{x.name!r} was seen in fewer than {self.rows:,} rows"
        weight = np.concatenate([rows(found) for found in group]).astype(np.float64)
        if not np.isfinite(weight).all():
            return "its weights are not all finite"
        seen, largest = channels.magnitude, np.abs(weight).max(axis=0, initial=0.0)
        factors = smooth_factors(seen, largest, self.alpha)
        if np.abs(factors - 1).max(initial=0.0) <= SETTLED:
            return np.ones_like(factors)
        before, after = (
            expected_noise(seen, channels.mean_magnitude, weight, tried)
            for tried in (np.ones_like(factors), factors)
        )
        if after > self.worth * before:
            return f"it would leave {after / before:.0%} of the noise of {x.name!r}"
        return factors

    def _smooth(
        self, group: Sequence[Site], factors: np.ndarray, editor: Editor, journal: Journal
    ) -> None:
        x, nodes = group[0].inputs[0], [found.node for found in group]
        plan = _channels.plan(x, nodes)
        if isinstance(plan, str) and not self.multiply:
            journal.refuse(self.name, nodes[0], f"{x.name!r} cannot be divided: {plan}")
            return
        if not journal.permits(self.name, nodes[0]):
            return
        if isinstance(plan, str):
            _channels.divide_at_run_time(x, nodes, factors, editor)
        else:
            _channels.divide(plan, factors, editor)
            # What was observed is true of this value no more.
            x.name = editor.fresh_name(f"{x.name}_smoothed")
        for found in group:
            along = factors if found.axis == 0 else factors[:, None]
            Writer(editor).multiplied(found.node, 1, along)


def _groups(model: ir.Model, journal: Journal | None = None) -> list[list[Site]]:
    """The products of each input, in order; near misses go to the journal."""
    groups: dict[tuple[ir.Value, int], list[Site]] = {}
    for node in queries.nodes(model):
        if not queries.is_standard(node, *_OPERATORS):
            continue
        found = site(node)
        if isinstance(found, Site):
            groups.setdefault((found.inputs[0], id(node.graph)), []).append(found)
        elif found is not None and journal is not None:
            journal.refuse(SmoothQuant.name, node, found)
    return list(groups.values())
