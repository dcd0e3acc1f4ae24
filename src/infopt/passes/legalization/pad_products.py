"""pad-products: rows that would fall onto each other in the cache are a little longer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.editing import operators
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

RULE = "rows"
_ELEMENTWISE = operators(
    "Add Elu Erf Gelu HardSigmoid HardSwish LeakyRelu Mish Mul Neg QuickGelu Relu Sigmoid Softplus "
    "Sub Swish Tanh"
)
"""Operators that make numbers of zeros, with one or two inputs of the same columns."""


@dataclasses.dataclass(frozen=True)
class PadProducts(Rewrite):
    """``x · W``, where a row of ``x`` fills whole pages, becomes ``[x 0] · [W; 0]``: the same sum.

    A kernel reads several rows of ``x`` side by side. Where they lie a multiple of a page apart,
    all of them compete for the few places that a first-level cache has for such addresses; a row
    that is one cache line longer does not (Lam, Rothberg and Wolf, ASPLOS 1991, on leading
    dimensions). Where ``x`` comes of other products through functions of single elements, those
    get columns of zeros, which costs little; elsewhere ``x`` is copied by a Pad, which
    pays where enough columns are computed of it.
    """

    name: ClassVar[str] = "pad-products"
    anchors: ClassVar[frozenset[str]] = frozenset({"MatMul"})

    page: int = 4096
    """Bytes that lie apart what competes for the same places."""
    line: int = 64
    """Bytes that are added to a row."""
    least: int = 512
    """The number of columns from which on a copy of ``x`` pays."""

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        x, width = node.inputs[0], _rows(node)
        if x is None or width is None or x.dtype != ir.DataType.FLOAT or x.shape is None:
            return None
        rank = sizes.rank(x)
        if rank is None or sizes.number(x, -1) != width or 4 * width % self.page:
            return None
        if all(sizes.number(x, axis) == 1 for axis in range(rank - 1)):
            return Miss(RULE, "it has a single row, beside which no other lies")
        extra = self.line // 4
        chain = _chain(x, width, sizes)
        if isinstance(chain, Chain):
            return Found(RULE, lambda to: chain.widen(to, extra, node))
        readers = [use.node for use in x.uses() if use.idx == 0 and _rows(use.node) == width]
        readers = [reader for reader in readers if reader.graph is node.graph]
        columns = sum(_columns(reader) or 0 for reader in readers)
        if columns < self.least:
            return Miss(RULE, f"a copy for {columns} columns does not pay, and {chain}")
        if readers[0] is not node:
            return None  # the first of them stands for all

        def build(to: Builder) -> Sequence[ir.Value]:
            ends = np.zeros(2 * rank, np.int64)
            ends[-1] = extra
            padded = to.op("Pad", x, to.constant(ends, "ends"))
            return [
                to.op("MatMul", padded, _wider(to, reader.inputs[1], 0, extra), like=output)
                for reader in readers
                for output in reader.outputs
            ]

        return Found(RULE, build, tuple(reader.outputs[0] for reader in readers))


@dataclasses.dataclass
class Chain:
    """Products, functions of single elements behind them, and the products that read those."""

    width: int
    sources: list[ir.Node] = dataclasses.field(default_factory=list)
    """Products whose columns the chain computes with."""
    between: list[ir.Node] = dataclasses.field(default_factory=list)
    """Functions of single elements."""
    readers: list[ir.Node] = dataclasses.field(default_factory=list)
    """Products that sum over the columns."""

    def widen(self, to: Builder, extra: int, anchor: ir.Node) -> ir.Value:
        """Add ``extra`` columns of zeros, in place; returns what stands for ``anchor``'s result."""
        for source in self.sources:
            source.replace_input_with(1, _wider(to, source.inputs[1], 1, extra))
        for node in self.between:
            for index, value in enumerate(node.inputs):
                if _is_row(value, self.width):
                    node.replace_input_with(index, _wider(to, value, -1, extra))
        for value in (node.outputs[0] for node in (*self.sources, *self.between)):
            assert value.shape is not None
            value.shape = ir.Shape([*list(value.shape)[:-1], self.width + extra])
        for reader in self.readers:
            if reader is not anchor:
                reader.replace_input_with(1, _wider(to, reader.inputs[1], 0, extra))
        weights = _wider(to, anchor.inputs[1], 0, extra)
        return to.op("MatMul", anchor.inputs[0], weights, like=anchor.outputs[0])


def _chain(x: ir.Value, width: int, sizes: Sizes) -> Chain | str:
    """The chain that ``x`` is part of; or in words, why it has no end."""
    chain = Chain(width)
    pending, seen = [x], {x}
    while pending:
        value = pending.pop()
        node = value.producer()
        if node is None or value.is_graph_output() or value.shape is None:
            return f"{value.name!r} is read or given as it is"
        if sizes.number(value, -1) != width:
            return f"{value.name!r} has other columns"
        if _columns(node) == width:
            chain.sources.append(node)
            found = []
        elif _is_function(node):
            chain.between.append(node)
            found = [v for v in node.inputs if not _is_row(v, width) and not _is_single(v)]
        else:
            return f"its columns come from {node.op_type}"
        for reader, index in value.uses():
            if reader.graph is not x.graph:
                return f"{value.name!r} is read in a branch"
            if _is_function(reader):
                found.append(reader.outputs[0])
            elif index == 0 and _rows(reader) == width:
                chain.readers.append(reader)
            else:
                return f"{value.name!r} is read by {reader.op_type}"
        for other in found:
            if other is None or other.graph is not x.graph:
                return f"{node.op_type} reads from elsewhere"
            if other not in seen:
                seen.add(other)
                pending.append(other)
    return chain


def _is_function(node: ir.Node) -> bool:
    return node.op_type in _ELEMENTWISE and node.domain in ("", "com.microsoft")


def _weights(node: ir.Node) -> tuple[int, int] | None:
    """Rows and columns of the constant matrix that ``node`` multiplies with."""
    if not queries.is_standard(node, "MatMul") or queries.constant_tensor(node.inputs[1]) is None:
        return None
    shape = queries.static_shape(node.inputs[1])
    return (shape[0], shape[1]) if shape is not None and len(shape) == 2 else None


def _rows(node: ir.Node) -> int | None:
    shape = _weights(node)
    return None if shape is None else shape[0]


def _columns(node: ir.Node) -> int | None:
    shape = _weights(node)
    return None if shape is None else shape[1]


def _is_row(value: ir.Value | None, width: int) -> bool:
    """Whether ``value`` is a constant with a number for each column."""
    shape = queries.static_shape(value)
    if shape is None or queries.constant_tensor(value) is None:
        return False
    return shape[-1:] == (width,)


def _is_single(value: ir.Value | None) -> bool:
    """Whether ``value`` is a constant number."""
    tensor = queries.constant_tensor(value)
    return tensor is not None and tensor.size == 1


def _wider(to: Builder, value: ir.Value | None, axis: int, extra: int) -> ir.Value:
    """A constant with ``extra`` zeros more along an axis."""
    array = queries.constant(value)
    assert array is not None
    ends = [(0, 0)] * array.ndim
    ends[axis] = 0, extra
    return to.constant(np.pad(array, ends), "padded")
