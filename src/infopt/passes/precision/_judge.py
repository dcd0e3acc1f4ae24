"""Which nodes become 16 bits wide, and why others do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import onnx_ir as ir

from infopt.ir import queries
from infopt.ir.schemas import Signature, is_tensor, signature
from infopt.passes.editing import is_used
from infopt.passes.matching import produced_by
from infopt.passes.precision._half import Half
from infopt.passes.precision._masks import Masks, carried, is_mask, is_softmax
from infopt.passes.precision._operators import (
    MOVING,
    PLACES,
    QUANTIZED,
    STAYS,
    TYPED,
    UNKNOWN,
    multiplies_matrix,
    terms,
)
from infopt.quant.calibration import Calibration
from infopt.quant.statistics.histogram import Histogram


@dataclasses.dataclass(frozen=True)
class Site:
    """A node with float32 values that its operator would take, or return, in the other type."""

    node: ir.Node
    inputs: tuple[int, ...]
    """Which inputs change."""
    outputs: tuple[int, ...]
    """Which outputs change."""
    fixed: bool = False
    """Whether an output is float32 and cannot be anything else."""
    bounded: frozenset[int] = frozenset()
    """Which of the inputs are masks, whose negative numbers have to be bounded."""

    @property
    def read(self) -> Iterator[tuple[int, ir.Value]]:
        """The inputs that change."""
        for index in self.inputs:
            value = self.node.inputs[index]
            assert value is not None
            yield index, value

    @property
    def written(self) -> list[ir.Value]:
        """The outputs that change."""
        return [self.node.outputs[index] for index in self.outputs]


class Judge:
    """Decides node by node, in the order of the graph.

    Args:
        model: The model; its main graph is judged.
        half: The type to change to.
        calibration: What was observed; where it knows nothing, constants alone decide.
        share: How much of the range of the type an observed value may take.
        only: The operators that may change; empty for all.
    """

    def __init__(
        self, model: ir.Model, half: Half, calibration: Calibration, share: float, only: str
    ) -> None:
        self.masks = Masks(model.graph)
        self._model, self._half = model, half
        self._calibration, self._share = calibration, share
        self._only = frozenset(only.split("+")) if only else None
        self._exact = _exact_nodes(model.graph)
        self._narrow: set[ir.Value] = set()
        """Values that nodes judged so far compute in the other type."""

    def sites(self) -> Iterator[Site]:
        """Every node that could change."""
        for node in self._model.graph:
            found = self._site(node)
            if found is not None:
                yield found

    def verdicts(self) -> Iterator[tuple[Site, str | None]]:
        """Each site, and why it stays float32: ``None`` if it changes."""
        for found in self.sites():
            if not found.outputs and not found.fixed:
                if self._follows(found):
                    yield found, None
                continue
            found = dataclasses.replace(found, bounded=frozenset(self._bounded(found)))
            reason = self._why_not(found)
            if reason is None:
                self._narrow.update(found.written)
            yield found, reason

    def _signature(self, node: ir.Node) -> Signature | None:
        return signature(node, self._model.graph.opset_imports.get(node.domain, 1))

    def _site(self, node: ir.Node) -> Site | None:
        floats = [v for v in (*node.inputs, *node.outputs) if v is not None and _is_float(v)]
        if (
            not floats
            or queries.is_standard(node, "Constant")
            or not any(map(is_used, node.outputs))
        ):
            return None
        known = self._signature(node)
        if known is None or any(True for _ in queries.subgraphs_of(node)):
            return Site(node, (), (), fixed=any(map(_is_float, node.outputs)))
        if widened(node.outputs[0], self._half) is not None:
            return None  # a cast that those who change will not need
        kept = PLACES.get(node.op_type, ()) if node.domain == "" else ()
        inputs = tuple(
            index
            for index, value in enumerate(node.inputs)
            if value is not None and _is_float(value) and index not in kept
            if known.allows(known.inputs[index], self._half.dtype)
        )
        free = set(known.inputs)
        if node.domain == "" and node.op_type in TYPED:
            free |= set(known.outputs)
        floating = [i for i, v in enumerate(node.outputs) if _is_float(v) and v.name]
        outputs = tuple(
            index
            for index in floating
            if known.outputs[index] in free and known.allows(known.outputs[index], self._half.dtype)
        )
        if not inputs and not floating:
            return None
        return Site(node, inputs, outputs, fixed=bool(floating) and not outputs)

    def _follows(self, found: Site) -> bool:
        """Whether a node without a float32 result reads what has changed, and need not cast it."""
        for index, value in found.read:
            if _reads_exactly(found.node, index):
                return False
            if not self._is_at_hand(value):
                return False
        return (
            bool(found.inputs)
            and self._of_operator(found) is None
            and not self._of_constants(found)
        )

    def _is_at_hand(self, value: ir.Value) -> bool:
        """Whether no cast is needed for ``value`` in the other type."""
        if value in self._narrow or queries.constant_tensor(value) is not None:
            return True
        return widened(value, self._half) is not None

    def _why_not(self, found: Site) -> str | None:
        return (
            self._of_operator(found)
            or self._of_meaning(found.node)
            or self._of_constants(found)
            or self._of_activations(found)
        )

    def _of_operator(self, found: Site) -> str | None:
        """What speaks against the operator itself."""
        node, half = found.node, self._half
        if node.op_identifier() in self._model.functions:
            return "it calls a function; put inline-functions before this pass"
        if any(True for _ in queries.subgraphs_of(node)):
            return "it runs a graph, inside of which all stays float32"
        if self._signature(node) is None:
            return (
                f"there is no schema that says whether {node.domain}::{node.op_type} takes {half}"
            )
        if self._only is not None and node.op_type not in self._only:
            return f"{node.op_type} is not among the operators that the target computes in {half}"
        if node.domain == "" and node.op_type in STAYS:
            return STAYS[node.op_type]
        values = (*node.inputs, *node.outputs)
        if any(value is not None and value.type is None for value in values):
            return "the type of one of its values is unknown"
        if any(value is not None and not is_tensor(value) for value in values):
            return "it handles sequences or optional values"
        if any(produced_by(value, *QUANTIZED) for _, value in found.read):
            return "it reads what was quantized"
        if found.fixed:
            version = self._model.graph.opset_imports.get(node.domain, 1)
            return f"{node.op_type} has no {half} for it at opset {version}"
        return None

    def _of_meaning(self, node: ir.Node) -> str | None:
        """What speaks against fewer digits."""
        if node in self._exact:
            return "what it computes is read as float32 alone: a size, a position or an angle"
        count = terms(node)
        if count == UNKNOWN:
            return "it sums along axes of unknown length, and has no float32 inside"
        if count > self._half.terms:
            return f"it sums {count} numbers, and has no float32 inside"
        if node in self.masks.nodes:
            for value in carried(node):
                if value.producer() is not None and not self._is_at_hand(value):
                    return f"it reads {value.name!r} as part of a mask, which stays float32"
            return None
        read = [value for value in node.inputs if value is not None and _is_float(value)]
        if queries.is_standard(node, *MOVING) and not any(map(self._is_at_hand, read)):
            return "it only moves what is float32 before it; a cast can come behind it"
        return None

    def _of_constants(self, found: Site) -> str | None:
        node = found.node
        for index, value in found.read:
            tensor = queries.constant_tensor(value)
            if tensor is not None:
                bounded = index in found.bounded
                divides = queries.is_standard(node, "Div", "Mod") and index == 1
                reason = self._half.why_not(tensor, masks=bounded, divides=divides)
                if reason is not None:
                    return f"its constant {value.name!r} {reason}"
        if queries.is_standard(node, "ConstantOfShape") and "value" in node.attributes:
            tensor = node.attributes["value"].as_tensor()
            reason = self._half.why_not(tensor, masks=node in self.masks.nodes)
            return None if reason is None else f"its value {reason}"
        return None

    def _of_activations(self, found: Site) -> str | None:
        node = found.node
        for index, value in found.read:
            if queries.constant_tensor(value) is None and not is_mask(node, index):
                reason = self._of_range(value, bounded=self._is_bounded(value, node))
                if reason is not None:
                    return f"its input {reason}"
        for value in found.written:
            reason = self._of_range(value, bounded=self._is_bounded(value))
            if reason is not None:
                return f"its output {reason}"
        return None

    def _of_range(self, value: ir.Value, *, bounded: bool) -> str | None:
        """What speaks against a value as it was observed; of a mask, only what is above 0."""
        seen = self._seen(value)
        if seen is None:
            return None
        if seen.nonfinite and not bounded:
            return f"{value.name!r} was infinite or not a number during calibration"
        most = max(seen.high, 0.0 if bounded else -seen.low) if seen.count else 0.0
        if most > self._share * self._half.largest:
            ends = f"{self._half} ends at {self._half.largest:g}"
            return f"{value.name!r} reaches {most:g}, and {ends}"
        return None

    def _is_bounded(self, value: ir.Value, reader: ir.Node | None = None) -> bool:
        """Whether the negative numbers of ``value`` are a mask's, and bounded on their way."""
        if value not in self.masks.values:
            return False
        maker = value.producer()
        if maker is None:
            return reader in self.masks.nodes
        return maker in self.masks.nodes or self._bans(maker)

    def _bounded(self, found: Site) -> Iterator[int]:
        """The inputs that are masks, or make one."""
        node = found.node
        for index, value in found.read:
            if is_mask(node, index) or node in self.masks.nodes:
                yield index
            elif queries.constant_tensor(value) is not None:
                if self._bans(node):
                    yield index
            # Scores that a softmax reads as they are were seen to be in range, or not at all.
            elif is_softmax(node) and self._seen(value) is None:
                yield index

    def _bans(self, node: ir.Node) -> bool:
        """Whether ``node`` makes a mask of flags from 0 to 1, with a large negative factor."""
        if not queries.is_standard(node, "Mul") or node.outputs[0] not in self.masks.values:
            return False
        flags = [value for value in node.inputs if queries.constant_tensor(value) is None]
        seen = self._seen(flags[0]) if len(flags) == 1 and flags[0] is not None else None
        return seen is not None and not seen.nonfinite and seen.low >= 0 and seen.high <= 1

    def _seen(self, value: ir.Value) -> Histogram | None:
        """What was observed of a value, under its name or that of what it is a cast of."""
        found = self._calibration.histogram(value.name)
        source = widened(value, self._half)
        return found or (None if source is None else self._calibration.histogram(source.name))


def widened(value: ir.Value, half: Half) -> ir.Value | None:
    """The value in the other type of which ``value``, in float32, is a cast."""
    cast = produced_by(value, "Cast")
    source = None if cast is None else cast.inputs[0]
    if source is None or source.dtype != half.dtype or value.dtype != ir.DataType.FLOAT:
        return None
    return source


def _is_float(value: ir.Value) -> bool:
    return value.dtype == ir.DataType.FLOAT and is_tensor(value)


def _reads_exactly(node: ir.Node, index: int) -> bool:
    """Whether an input is one that no digit must be lost of."""
    if node.domain != "":
        return False
    if node.op_type in PLACES:
        return index in PLACES[node.op_type]
    if node.op_type == "Cast":
        dtype = node.outputs[0].dtype
        return dtype is not None and dtype.is_integer()
    # Quantization and random numbers are apart, but not for the sake of digits.
    return node.op_type in STAYS and "all digits" in STAYS[node.op_type]


def _exact_nodes(graph: ir.Graph) -> set[ir.Node]:
    """The nodes whose results go into exact inputs alone, from the last layer of weights on."""
    found: set[ir.Node] = set()
    for node in reversed(graph):
        floats = [value for value in node.outputs if _is_float(value)]
        uses = [use for value in floats for use in value.uses()]
        if not uses or multiplies_matrix(node) or any(v.is_graph_output() for v in floats):
            continue
        if all(use.node in found or _reads_exactly(use.node, use.idx) for use in uses):
            found.add(node)
    return found
