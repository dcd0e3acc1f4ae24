"""What a model costs: parameters, arithmetic and memory, in all and by operator.

Dynamic dimensions are evaluated at sizes that the caller gives, or at a default that the
result states; nothing is counted at sizes that nobody named. ``infopt.ir.flops`` says what
counts as a MAC and a FLOP.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from infopt.errors import ModelError
from infopt.ir import queries
from infopt.ir.flops import elements, work
from infopt.ir.settle import settle_shapes
from infopt.ir.shapes import infer_shapes

DEFAULT_FIRST = 1
"""Size of a dynamic first dimension (the batch, nearly always) that nobody gave."""
DEFAULT_OTHER = 128
"""Size of any other dynamic dimension that nobody gave."""


@dataclasses.dataclass(frozen=True)
class OperatorCost:
    """The share of one operator."""

    operator: str
    nodes: int
    macs: int
    flops: int
    """Floating-point operations, two for each MAC."""
    parameters: int
    weight_bytes: int
    """A weight that several operators read belongs to the first of them."""
    output_bytes: int
    """What its nodes write, added up."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one run of a model costs, at stated sizes of its dynamic dimensions."""

    sizes: dict[str, int]
    """The size at which each dynamic dimension was evaluated; unnamed ones are ``input[axis]``."""
    parameters: int
    """Elements of all weights: constants of one or more dimensions whose type is a float or has
    at most 8 bits. Integer constants beyond that are shapes and indices."""
    weight_bytes: int
    """All constants, whatever they are for."""
    macs: int
    flops: int
    activation_bytes: int
    """The most bytes of inputs and intermediate results that are alive at one time, when each
    is freed after its last use and nothing is computed in place."""
    operators: tuple[OperatorCost, ...]
    """Most FLOPs first."""
    uncounted: dict[str, int]
    """Operators with nodes whose arithmetic is not known here, and how many: a lower bound is
    all that ``flops`` is where this is not empty."""


def cost(model: ir.Model, sizes: Mapping[str, int] | None = None) -> Cost:
    """What one run of ``model`` costs. The model is not changed.

    Args:
        model: The model; its intermediate shapes need not be known. Dimensions of the same
            name are equal, so placeholders like ``?`` must have been made unknown before.
        sizes: Name of a dynamic dimension, or ``input[axis]`` where it has none → its size.
            Those left out take the defaults.

    Raises:
        ShapeError: The model is inconsistent at these sizes.
        ModelError: Its functions call one another in a circle.
    """
    model = model.clone()
    if model.functions:
        try:
            InlinePass()(model)
        except ir.passes.PassError as error:
            raise ModelError(f"the model's functions cannot be inlined: {error}") from None
    return _Count(model, _settle(model, sizes or {})).total()


def flops_of_nodes(model: ir.Model) -> dict[str, int]:
    """The FLOPs of one run of each node of the main graph, by its name; sizes as in :func:`cost`.

    Nodes whose arithmetic is not known count nothing. The model is not changed.

    Raises:
        ShapeError: The model is inconsistent at these sizes.
    """
    model = model.clone()
    _settle(model, {})
    done = ((node.name or "", work(node)) for node in model.graph)
    return {name: 0 if found is None else found.flops for name, found in done}


def _settle(model: ir.Model, sizes: Mapping[str, int]) -> dict[str, int]:
    """Make shapes as static as they get; returns the sizes that were chosen."""
    chosen = _choose_sizes(model, sizes)
    infer_shapes(model)
    settle_shapes(model)
    return chosen


def _choose_sizes(model: ir.Model, given: Mapping[str, int]) -> dict[str, int]:
    """Give every dimension of the inputs a number, and every value the ones that follow."""
    chosen: dict[str, int] = {}
    for value in model.graph.inputs:
        if value.shape is not None and not value.is_initializer():
            value.shape = ir.Shape(
                [
                    _choose(dim, f"{value.name}[{axis}]", axis, given, chosen)
                    for axis, dim in enumerate(value.shape)
                ]
            )
    for node in queries.nodes(model):
        for output in node.outputs:
            if output.shape is not None and not output.shape.is_static():
                output.shape = ir.Shape([_evaluate(dim, chosen) for dim in output.shape])
    return chosen


def _choose(
    dim: int | ir.SymbolicDim,
    place: str,
    axis: int,
    given: Mapping[str, int],
    chosen: dict[str, int],
) -> int:
    """The size of one dimension of an input: as given, as it follows, or the default."""
    if isinstance(dim, int):
        return dim
    name = dim.value or place
    if name in given:
        return chosen.setdefault(name, given[name])
    known = _evaluate(dim, chosen)
    if isinstance(known, int):
        return known
    return chosen.setdefault(name, DEFAULT_FIRST if axis == 0 else DEFAULT_OTHER)


def _evaluate(dim: int | ir.SymbolicDim, sizes: Mapping[str, int]) -> int | ir.SymbolicDim:
    """``dim`` as a number, if it is one or an expression of known sizes; else unknown."""
    if isinstance(dim, int):
        return dim
    if dim.value is not None and dim.value in sizes:
        return sizes[dim.value]
    try:
        number = dim.evaluate(dict(sizes))
    except Exception:  # exporters name dimensions as they like; not every name is an expression
        number = None
    return number if isinstance(number, int) else ir.SymbolicDim(None)


@dataclasses.dataclass
class _Share:
    nodes: int = 0
    macs: int = 0
    flops: int = 0
    parameters: int = 0
    weight_bytes: int = 0
    output_bytes: int = 0


class _Count:
    """Adds up the nodes of one model whose shapes have been made as static as they get."""

    def __init__(self, model: ir.Model, sizes: dict[str, int]) -> None:
        self._model = model
        self._sizes = sizes
        self._shares: dict[str, _Share] = {}
        self._uncounted: dict[str, int] = {}
        self._seen: set[ir.Value] = set()

    def total(self) -> Cost:
        graph = self._model.graph
        self._add_graph(graph, times=1)
        operators = tuple(
            OperatorCost(operator=name, **dataclasses.asdict(share))
            for name, share in sorted(
                self._shares.items(), key=lambda item: (-item[1].flops, -item[1].nodes, item[0])
            )
        )
        return Cost(
            sizes=self._sizes,
            parameters=sum(o.parameters for o in operators),
            weight_bytes=sum(o.weight_bytes for o in operators),
            macs=sum(o.macs for o in operators),
            flops=sum(o.flops for o in operators),
            activation_bytes=_peak(graph),
            operators=tuple(o for o in operators if o.operator != "Constant"),
            uncounted=dict(sorted(self._uncounted.items())),
        )

    def _add_graph(self, graph: ir.Graph, times: int) -> None:
        for node in graph:
            self._add_node(node, times)

    def _add_node(self, node: ir.Node, times: int) -> None:
        operator = queries.operator_name(node)
        share = self._shares.setdefault(operator, _Share())
        share.nodes += 1
        done = work(node)
        if done is None:
            self._uncounted[operator] = self._uncounted.get(operator, 0) + 1
        else:
            share.macs += times * done.macs
            share.flops += times * done.flops
        share.output_bytes += times * sum(_nbytes(value) for value in node.outputs)
        for value, tensor in _weights(node):
            if value in self._seen:
                continue
            self._seen.add(value)
            share.weight_bytes += tensor.nbytes
            if _is_parameter(tensor):
                share.parameters += tensor.size
        for graph in queries.subgraphs_of(node):
            self._add_graph(graph, times * _trips(node))


def _weights(node: ir.Node) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    for value in node.inputs:
        tensor = queries.constant_tensor(value)
        if value is not None and tensor is not None and tensor.dtype != ir.DataType.STRING:
            yield value, tensor


def _is_parameter(tensor: ir.TensorProtocol) -> bool:
    small = tensor.dtype != ir.DataType.BOOL and tensor.dtype.bitwidth <= 8
    return len(tensor.shape) > 0 and (tensor.dtype.is_floating_point() or small)


def _trips(node: ir.Node) -> int:
    """How often the body of a Loop or Scan runs; 1 where only the data can tell."""
    if queries.is_standard(node, "Loop"):
        trips = queries.constant(node.inputs[0])
        return 1 if trips is None or trips.size != 1 else max(0, min(int(trips.item()), 2**31))
    if queries.is_standard(node, "Scan"):
        scanned = node.inputs[-1]
        axes: Sequence[int] = queries.attribute(node, "scan_input_axes", (0,))
        shape = queries.static_shape(scanned)
        return 1 if not shape or not -len(shape) <= axes[-1] < len(shape) else shape[axes[-1]]
    return 1


def _nbytes(value: ir.Value | None) -> int:
    """The bytes of a value; 0 where its shape or type is not known."""
    count = elements(value)
    if value is None or count is None or value.dtype is None:
        return 0
    if value.dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
        return 0
    return math.ceil(count * value.dtype.bitwidth / 8)


def _peak(graph: ir.Graph) -> int:
    """The most bytes alive at one time, over the steps of ``graph`` in its own order."""
    last_use: dict[ir.Value, int] = {}
    for step, node in enumerate(graph):
        for value in _reads(node):
            last_use[value] = step
    for value in graph.outputs:
        last_use[value] = len(graph)
    frees: dict[int, list[ir.Value]] = {}
    for value, step in last_use.items():
        frees.setdefault(step, []).append(value)
    alive: dict[ir.Value, int] = {
        value: _nbytes(value) for value in graph.inputs if not value.is_initializer()
    }
    now = most = sum(alive.values())
    for step, node in enumerate(graph):
        for value in node.outputs:
            if not queries.is_standard(node, "Constant"):
                alive[value] = _nbytes(value)
                now += alive[value]
        inside = max((_peak(sub) for sub in queries.subgraphs_of(node)), default=0)
        most = max(most, now + inside)
        for value in [*frees.get(step, ()), *(v for v in node.outputs if v not in last_use)]:
            now -= alive.pop(value, 0)
    return most


def _reads(node: ir.Node) -> Iterator[ir.Value]:
    """What ``node`` reads, the values of outer graphs that its subgraphs capture included."""
    for value in node.inputs:
        if value is not None:
            yield value
    for graph in queries.subgraphs_of(node):
        for inner in graph.all_nodes():
            for value in inner.inputs:
                if value is not None:
                    yield value
        yield from graph.outputs
