"""Where a runtime gains by integers, as far as the shape of an operator and its neighbours tell."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence

import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.matching import is_read_outside, produced_by, rank, size
from infopt.passes.quantization._sites import Site
from infopt.quant.calibration import Calibration, Request
from infopt.quant.statistics.histogram import Histogram


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is too small, or too large, to gain."""

    channels: int = 1
    """The least number of channels that a convolution reads and writes."""
    filter: int = 0
    """The largest number of elements of its filters; 0 for any."""
    grouped: bool = True
    """Whether convolutions in groups gain, whose channels are not counted then."""
    vectors: bool = True
    """Whether products of a vector, or that return one, gain."""

    def why_not(self, found: Site) -> str | None:
        """Why integers do not pay for an operator with weights; ``None`` if they do."""
        tensor = queries.constant_tensor(found.node.inputs[1])
        assert tensor is not None
        shape = tensor.shape.numpy()
        if found.node.op_type != "Conv":
            return None if self.vectors or not _of_vectors(found, shape) else "it is of a vector"
        if queries.attribute(found.node, "group", 1) > 1:
            return None if self.grouped else "it convolves channels in groups"
        least, area = min(shape[:2]), math.prod(shape[2:])
        if least < self.channels:
            return f"it reads or writes {least} channels, fewer than {self.channels}"
        if self.filter and area > self.filter:
            return f"its filters have {area} elements, more than {self.filter}"
        return None


def _of_vectors(found: Site, weights: Sequence[int]) -> bool:
    x = found.inputs[0]
    return weights[found.axis] == 1 or rank(x) == 1 or (rank(x) == 2 and size(x, 0) == 1)


def beside_convolution(found: Site) -> Site | None:
    """A sum of which only the summand is quantized that comes from elsewhere.

    The other one is written, for this sum alone, by a convolution, in which a runtime takes the
    sum in. Of two convolutions it is the one at the end of the longer way.
    """
    node = found.node
    written = {
        index: producer
        for index in found.activations
        if (value := node.inputs[index]) is not None
        and (producer := produced_by(value, "Conv")) is not None
        and not is_read_outside(value, [node])
    }
    if not written:
        return None
    into = max(written, key=lambda index: _depth(written[index]))
    other = next(index for index in found.activations if index != into)
    if produced_by(node.inputs[other], "DequantizeLinear") is not None:
        return None
    return dataclasses.replace(found, activations=(other,), into=written[into])


def _depth(node: ir.Node) -> int:
    """How many nodes lie in front of ``node``, each the first input of the next."""
    count = 0
    producer: ir.Node | None = node
    while producer is not None and producer.inputs:
        value = producer.inputs[0]
        producer = None if value is None else value.producer()
        count += 1
    return count


def neighbours(
    graph: ir.Graph, operators: Collection[str], values: Iterable[ir.Value]
) -> list[list[ir.Value]]:
    """Those of ``values`` that these operators hand on to each other, in groups of two or more."""
    parents: dict[ir.Value, ir.Value] = {}

    def root(value: ir.Value) -> ir.Value:
        while value in parents:
            value = parents[value]
        return value

    for node in graph:
        if not queries.is_standard(node, *operators):
            continue
        result = node.outputs[0]
        for value in node.inputs:
            if value is not None and value.dtype == result.dtype and root(value) != root(result):
                parents[root(value)] = root(result)
    groups: dict[ir.Value, list[ir.Value]] = {}
    for value in dict.fromkeys(values):
        groups.setdefault(root(value), []).append(value)
    return [group for group in groups.values() if len(group) > 1]


def together(calibration: Calibration, groups: Sequence[Sequence[ir.Value]]) -> Calibration:
    """The same with one histogram for all values of a group, of all that was seen of them."""
    statistics = dict(calibration.statistics)
    for group in groups:
        seen = [found for value in group if (found := calibration.histogram(value.name))]
        merged = Histogram()
        for found in seen:
            merged.merge(found)
        if seen:
            statistics |= {Request(value.name or "", "histogram"): merged for value in group}
    return dataclasses.replace(calibration, statistics=statistics)
