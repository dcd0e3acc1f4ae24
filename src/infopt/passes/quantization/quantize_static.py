"""quantize-static: activations and weights as integers, with scales fixed beforehand."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import ClassVar, Self

import numpy as np
import onnx_ir as ir

from infopt.errors import QuantizationError, nearest
from infopt.ir import queries
from infopt.passes.base import Journal, Preserves
from infopt.passes.editing import Editor
from infopt.passes.keeping import KEPT, Keeping
from infopt.passes.observed import NOT_OBSERVED, calibration_of, unobserved
from infopt.passes.quantization._per_channel import request, rounded
from infopt.passes.quantization._placement import Limits, beside_convolution, neighbours, together
from infopt.passes.quantization._sites import Site, site
from infopt.passes.quantization._writer import Writer
from infopt.quant.affine import Parameters
from infopt.quant.affine import parameters as parameters_of
from infopt.quant.calibration import Calibration, Request
from infopt.quant.granularity import PerAxis, PerTensor
from infopt.quant.ranges import find_range
from infopt.quant.scheme import QuantScheme
from infopt.quant.spec import FLOAT_TYPES, INTEGER_LIMITS, QuantSpec


@dataclasses.dataclass(frozen=True)
class QuantizeStatic(Keeping):
    """Operators read ``DequantizeLinear(QuantizeLinear(x))`` instead of ``x``.

    The weights become integers with a scale for each output channel. The scales of activations
    come from what a ``calibrate`` before the pass has observed. Which operators are quantized, and
    whether behind them, too, is the target's policy: a runtime that computes with integers from
    end to end wants its outputs quantized, another one only its inputs (Nagel et al.,
    arXiv:2106.08295, explain the choices).

    Activations that the calibration has not seen, or in which it has seen infinities or no
    numbers, stay as they are, and so does what reads them. A node that ``keep`` names computes with
    floats; what it reads is rounded all the same where that stands behind another operator.
    """

    name: ClassVar[str] = "quantize-static"
    preserves: ClassVar[Preserves] = Preserves.APPROXIMATE
    rounding: ClassVar[float] = 1 / 255

    operators: str = "Conv+Gemm+MatMul"
    """The operators to quantize, with ``+`` between them."""
    outputs: str = ""
    """Those of them behind which the result is quantized for all who read it."""
    activations: str = "uint8"
    """The type of activations; ``float8e4m3fn`` for both if for one."""
    weights: str = "int8"
    """The type of weights, which are symmetric."""
    unsaturated: bool = False
    """Whether weights of int8 are such that x86 processors without VNNI do not saturate: of two
    neighbours the sum is at most 128, for which steps are a quarter to a third coarser."""
    symmetric: bool = False
    """Whether the zero point of activations is that of a range around zero."""
    method: str = "min-max"
    """How ranges come from what was observed: ``min-max``, ``percentile``, ``entropy``, ``mse``."""
    algorithm: str = "nearest"
    """How weights are rounded: ``nearest``, or ``gptq`` where an input is one vector."""
    biases: bool = True
    """Whether biases become integers, too, on the scale of the product."""
    channels: int = 1
    """The least number of channels that a convolution reads and writes to be quantized."""
    filter: int = 0
    """The largest number of elements of its filters; 0 for any."""
    grouped: bool = True
    """Whether convolutions in groups are quantized, whose channels are not counted then."""
    vectors: bool = True
    """Whether products of a vector are quantized, or those that return one."""
    skips: bool = False
    """Whether of a sum only the summand is quantized that its convolution does not write."""
    alike: str = ""
    """Operators, with ``+`` between them, around which all that is quantized has one scale."""
    sums: bool = False
    """Whether sums are quantized into which no integers flow, too."""
    through: str = ""
    """Operators, with ``+`` between them, that hand integers on as they are: what they return of
    quantized results is quantized with the scale and zero point of what they read."""

    def __post_init__(self) -> None:
        floating = [_type(word) in FLOAT_TYPES for word in (self.activations, self.weights)]
        if floating[0] != floating[1]:
            raise QuantizationError(
                f"{self.activations} and {self.weights} are not multiplied with each other; choose "
                "integers, or float8e4m3fn, for both"
            )
        if self.unsaturated and _type(self.weights) is not ir.DataType.INT8:
            raise QuantizationError(
                f"only weights of int8 can be unsaturated, not {self.weights}; leave one of both "
                "away"
            )

    def alone(self, name: str, names: Collection[str]) -> Self:
        # No integers flow into a sum that stands alone.
        return dataclasses.replace(super().alone(name, names), sums=True)

    def observes(self, model: ir.Model) -> Iterable[Request]:
        for found in self._sites(model.graph):
            for value in (*found.inputs, *self._output(found)):
                yield Request(value.name or "", "histogram")
            wanted = request(found, self.algorithm)
            if found.weights is not None and wanted is not None:
                yield wanted

    def apply(self, model: ir.Model, journal: Journal) -> None:
        calibration = calibration_of(model)
        writer = Writer(Editor(model))
        sites = list(self._sites(model.graph, journal))
        if self.alike:
            values = [v for found in sites for v in (*found.inputs, *self._output(found))]
            groups = neighbours(model.graph, self.alike.split("+"), values)
            calibration = together(calibration, groups)
        kept = self.kept(model)
        opset = model.opset_imports.get("", 1)
        for found in sites:
            if opset < self._least_opset:
                reason = f"needs opset {self._least_opset}, the model has {opset}"
                journal.refuse(self.name, found.node, reason)
                continue
            if found.node.name in kept:
                journal.refuse(self.name, found.node, KEPT)
                continue
            sum_ = found.weights is None and not self.sums
            if sum_ and not _adds_integers(found, writer):
                continue  # a sum of numbers stays one
            known = self._known(found, calibration, writer)
            if isinstance(known, str):
                journal.refuse(self.name, found.node, known)
            elif journal.permits(self.name, found.node):
                self._quantize(found, known, calibration, writer, journal)
        for graph, reason in unobserved(model):
            for found in self._sites(graph, journal):
                if found.weights is not None:
                    journal.refuse(self.name, found.node, reason)

    def _known(
        self, found: Site, calibration: Calibration, writer: Writer
    ) -> dict[ir.Value, Parameters] | str:
        """Scale and zero point of each value around an operator; or why there are none."""
        known = {}
        for value in (*found.inputs, *self._output(found)):
            parameters = writer.parameters(value) or self._parameters(value, calibration)
            if isinstance(parameters, str):
                return f"{value.name!r} {parameters}"
            known[value] = parameters
        return known

    def _sites(self, graph: ir.Graph, journal: Journal | None = None) -> Iterable[Site]:
        """What is to be quantized; near misses go to the journal."""
        wanted = self.operators.split("+")
        for node in graph:
            if not queries.is_standard(node, *wanted) or _is_quantized(node):
                continue
            found = site(node)
            if isinstance(found, Site):
                found = self._placed(found)
            if isinstance(found, Site):
                yield found
            elif found is not None and journal is not None:
                journal.refuse(self.name, node, found)

    def _placed(self, found: Site) -> Site | str | None:
        """The operator as the target gains by it; or why it does not."""
        if found.weights is None:
            return beside_convolution(found) if self.skips else found
        limits = Limits(self.channels, self.filter, self.grouped, self.vectors)
        return limits.why_not(found) or found

    def _output(self, found: Site) -> tuple[ir.Value, ...]:
        """The result, if it is quantized."""
        wanted = found.node.op_type in self.outputs.split("+")
        return (found.output,) if wanted and found.output is not None else ()

    def _parameters(self, value: ir.Value, calibration: Calibration) -> Parameters | str:
        """Scale and zero point of an activation; or why there are none."""
        histogram = calibration.histogram(value.name)
        if histogram is None:
            return NOT_OBSERVED
        if histogram.nonfinite:
            return "was infinite or not a number during calibration"
        if not histogram.count:
            return "was empty in all samples"
        scheme = self._scheme
        assert scheme.activations is not None
        found = find_range(histogram, scheme.method, scheme.activations)
        return parameters_of(*found, scheme.activations)

    @property
    def _scheme(self) -> QuantScheme:
        weights = _type(self.weights)
        narrow = weights in INTEGER_LIMITS
        return QuantScheme(
            QuantSpec(weights, PerAxis(0), narrow=narrow, unsaturated=self.unsaturated),
            QuantSpec(_type(self.activations), PerTensor(), symmetric=self.symmetric),
            self.method,  # type: ignore[arg-type]
        )

    @property
    def _least_opset(self) -> int:
        """From which opset on QuantizeLinear knows the types."""
        return 19 if _type(self.weights) in FLOAT_TYPES else 13

    def _quantize(
        self,
        found: Site,
        known: dict[ir.Value, Parameters],
        calibration: Calibration,
        writer: Writer,
        journal: Journal,
    ) -> None:
        node = found.node
        if found.weights is not None:
            scale = known[found.inputs[0]].scale
            self._quantize_weights(found, scale, calibration, writer, journal)
        for index, value in zip(found.activations, found.inputs, strict=True):
            node.replace_input_with(index, writer.reading(value, known[value], node))
        for value in self._output(found):
            writer.behind(value, known[value])
            if self.through:
                _hand_on(value, self.through.split("+"), known[value], writer)

    def _quantize_weights(
        self,
        found: Site,
        scale: np.ndarray,
        calibration: Calibration,
        writer: Writer,
        journal: Journal,
    ) -> None:
        node = found.node
        assert found.weights is not None
        assert self._scheme.weights is not None
        bias = None
        if self.biases and not self._scheme.weights.is_float and found.bias is not None:
            bias = queries.constant(node.inputs[found.bias])
        least = 0.0 if bias is None else least_scale(scale, bias)
        source = writer.source(found.inputs[0])
        integers, parameters, notes = rounded(
            found, source, self._scheme.weights, self.algorithm, calibration, least
        )
        for note in notes:
            journal.refuse(self.algorithm, node, note)
        writer.constant(node, found.weights, integers, parameters, found.axis)
        if bias is not None and found.bias is not None:
            units = (scale.astype(np.float64) * parameters.scale).astype(np.float32)
            integers = np.rint(bias / units.astype(np.float64))
            limits = np.iinfo(np.int32)
            stored = np.clip(integers, limits.min, limits.max).astype(np.int32)
            writer.constant(node, found.bias, stored, Parameters(units, np.zeros_like(stored)), 0)


def least_scale(activations: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The scales of weights from which on the biases fit into 32 bits: float32 (outputs,)."""
    least = np.abs(bias.astype(np.float64)) / (activations.astype(np.float64) * (2**31 - 1))
    return np.asarray(np.nextafter(least.astype(np.float32), np.float32(np.inf)))


def _hand_on(
    value: ir.Value, operators: Collection[str], parameters: Parameters, writer: Writer
) -> None:
    """Quantize, as ``value`` is, what the operators behind it make of it."""
    for use in tuple(writer.dequantized(value).uses()):
        node = use.node
        if not queries.is_standard(node, *operators) or use.idx or len(node.outputs) != 1:
            continue
        if not node.outputs[0].is_graph_output():
            writer.behind(node.outputs[0], parameters)
            _hand_on(node.outputs[0], operators, parameters, writer)


def _adds_integers(found: Site, writer: Writer) -> bool:
    """Whether a summand is quantized, or the convolution that takes the sum in."""
    if found.into is not None:
        return _is_quantized(found.into)
    return any(map(writer.is_quantized, found.inputs))


def _is_quantized(node: ir.Node) -> bool:
    """Whether the weights of ``node`` are integers already, or both summands are."""
    read: Sequence[ir.Value | None] = node.inputs[:2]
    return all(
        value is not None
        and (producer := value.producer()) is not None
        and queries.is_standard(producer, "DequantizeLinear")
        for value in read
    )


def _type(word: str) -> ir.DataType:
    known = [kind.name.lower() for kind in (*INTEGER_LIMITS, ir.DataType.FLOAT8E4M3FN)]
    if word not in known:
        raise QuantizationError(
            f"cannot quantize to {word!r}{nearest(word, known)}; use one of {', '.join(known)}"
        )
    return ir.DataType[word.upper()]
