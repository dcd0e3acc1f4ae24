"""Random small models for Hypothesis: broadcasting, shape arithmetic, no-ops, chains, an If.

Everything is drawn so that the model is valid for one concrete set of sizes; some of these
sizes are declared by name only, so that passes see known and unknown dimensions.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.support.models import Array

OPSET = 24
MAX_NODES = 12


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A value of the model under construction, with its size at the sizes drawn."""

    name: str
    shape: tuple[int, ...]


@dataclasses.dataclass
class RandomModel:
    """A model, and inputs for which it was drawn."""

    proto: onnx.ModelProto
    inputs: dict[str, Array]


class Builder:
    """Adds random nodes to one graph."""

    def __init__(self, draw: st.DrawFn, prefix: str, outer: list[Tensor]) -> None:
        self.draw = draw
        self.prefix = prefix
        self.tensors = list(outer)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._count = 0

    def fresh(self) -> str:
        self._count += 1
        return f"{self.prefix}{self._count}"

    def constant(self, array: np.ndarray) -> str:
        """A constant: an initializer or a Constant node."""
        name = self.fresh()
        tensor = numpy_helper.from_array(array, name)
        if self.draw(st.booleans()):
            self.initializers.append(tensor)
        else:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        return name

    def ints(self, *numbers: int) -> str:
        return self.constant(np.array(numbers, np.int64))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = self.fresh()
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def pick(self) -> Tensor:
        return self.draw(st.sampled_from(self.tensors))

    def size_of(self, tensor: Tensor, axis: int) -> str:
        """The size of an axis, computed in one of the ways of exporters; shape [1]."""
        if self.draw(st.booleans()):
            return self.node("Shape", tensor.name, start=axis, end=axis + 1)
        shape = self.node("Shape", tensor.name)
        if self.draw(st.booleans()):
            return self.node("Slice", shape, self.ints(axis), self.ints(axis + 1))
        size = self.node("Gather", shape, self.constant(np.array(axis)))
        if self.draw(st.booleans()):
            size = self.node("Add", size, self.constant(np.array(0)))
        return self.node("Unsqueeze", size, self.ints(0))

    def target(self, shape: tuple[int, ...]) -> str:
        """A shape tensor for ``shape``: sizes of other tensors, numbers, perhaps one -1."""
        parts = []
        free = self.draw(st.integers(-1, len(shape) - 1)) if 0 not in shape else -1
        for axis, size in enumerate(shape):
            same = [
                (tensor, place)
                for tensor in self.tensors
                for place, other in enumerate(tensor.shape)
                if other == size
            ]
            computed = self.draw(st.booleans())
            if axis == free and not computed:
                parts.append(self.ints(-1))
            elif same and computed:
                tensor, place = self.draw(st.sampled_from(same))
                parts.append(self.size_of(tensor, place))
            else:
                parts.append(self.ints(size))
        return self.node("Concat", *parts, axis=0) if parts else self.ints()

    def sizes(self, tensor: Tensor) -> str:
        """The shape of ``tensor``, put together from its sizes and perhaps numbers."""
        parts = [
            self.size_of(tensor, axis) if self.draw(st.booleans()) else self.ints(size)
            for axis, size in enumerate(tensor.shape)
        ]
        return self.node("Concat", *parts, axis=0) if parts else self.ints()

    def step(self) -> None:
        """Add one tensor, with all nodes that it takes."""
        move = self.draw(st.sampled_from(STEPS))
        result = move(self)
        if result is not None:
            self.tensors.append(result)


UNARY = ("Abs", "Clip", "Dropout", "Floor", "Identity", "Neg", "Relu", "Sum")


def _unary(b: Builder) -> Tensor:
    x = b.pick()
    op = b.draw(st.sampled_from(UNARY))
    return Tensor(b.node(op, x.name), x.shape)


def _twice(b: Builder) -> Tensor:
    """The same thing twice, for common subexpressions."""
    x = b.pick()
    one, other = b.node("Neg", x.name), b.node("Neg", x.name)
    return Tensor(b.node("Mul", one, other), x.shape)


def _neutral(b: Builder) -> Tensor:
    x = b.pick()
    op, number = b.draw(
        st.sampled_from([("Mul", 1.0), ("Div", 1.0), ("Sub", 0.0), ("Add", 0.0), ("Add", -0.0)])
    )
    rank = b.draw(st.integers(0, 4))
    k = b.constant(np.full((1,) * rank, number, np.float32))
    return Tensor(b.node(op, x.name, k), (1,) * (rank - len(x.shape)) + x.shape)


def _binary(b: Builder) -> Tensor | None:
    x, y = b.pick(), b.pick()
    try:
        shape = np.broadcast_shapes(x.shape, y.shape)
    except ValueError:
        return None
    op = b.draw(st.sampled_from(["Add", "Sub", "Mul", "Max", "Min"]))
    return Tensor(b.node(op, x.name, y.name), shape)


def _weight(b: Builder) -> Tensor:
    shape = tuple(b.draw(st.lists(st.integers(1, 3), max_size=3)))
    values = np.arange(math.prod(shape), dtype=np.float32).reshape(shape) - 1
    return Tensor(b.constant(values), shape)


def _casts(b: Builder) -> Tensor:
    x = b.pick()
    kinds = [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16]
    name = x.name
    for kind in b.draw(st.lists(st.sampled_from(kinds), max_size=3)):
        name = b.node("Cast", name, to=kind)
    return Tensor(b.node("Cast", name, to=TensorProto.FLOAT), x.shape)


def _transpose(b: Builder) -> Tensor | None:
    x = b.pick()
    if not x.shape:
        return None
    perm = b.draw(st.permutations(range(len(x.shape))))
    return Tensor(b.node("Transpose", x.name, perm=perm), tuple(x.shape[axis] for axis in perm))


def _reshape(b: Builder) -> Tensor:
    x = b.pick()
    if b.draw(st.booleans()):
        shape = x.shape
    else:
        left, shape = math.prod(x.shape), ()
        for factor in b.draw(st.lists(st.sampled_from([1, 2, 3]), max_size=3)):
            if left % factor == 0:
                left, shape = left // factor, (*shape, factor)
        shape = (*shape, left)
    allow_zero = {"allowzero": 1} if 0 in shape else {}
    return Tensor(b.node("Reshape", x.name, b.target(shape), **allow_zero), shape)


def _expand(b: Builder) -> Tensor:
    x = b.pick()
    extra = tuple(b.draw(st.lists(st.integers(1, 2), max_size=1))) if len(x.shape) < 4 else ()
    shape = extra + x.shape
    parts = [b.ints(size) for size in extra]
    parts += [b.size_of(x, axis) for axis in range(len(x.shape))]
    target = b.node("Concat", *parts, axis=0) if parts else b.ints()
    return Tensor(b.node("Expand", x.name, target), shape)


def _unsqueeze(b: Builder) -> Tensor | None:
    x = b.pick()
    if len(x.shape) > 3:
        return None
    axis = b.draw(st.integers(0, len(x.shape)))
    shape = (*x.shape[:axis], 1, *x.shape[axis:])
    written = axis if b.draw(st.booleans()) else axis - len(shape)
    return Tensor(b.node("Unsqueeze", x.name, b.ints(written)), shape)


def _squeeze(b: Builder) -> Tensor | None:
    x = b.pick()
    ones = [axis for axis, size in enumerate(x.shape) if size == 1]
    if not ones:
        return None
    axis = b.draw(st.sampled_from(ones))
    shape = x.shape[:axis] + x.shape[axis + 1 :]
    return Tensor(b.node("Squeeze", x.name, b.ints(axis)), shape)


def _flatten(b: Builder) -> Tensor:
    x = b.pick()
    axis = b.draw(st.integers(0, len(x.shape)))
    shape = (math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))
    return Tensor(b.node("Flatten", x.name, axis=axis), shape)


def _slice(b: Builder) -> Tensor | None:
    x = b.pick()
    if not x.shape:
        return None
    axis = b.draw(st.integers(0, len(x.shape) - 1))
    start = b.draw(st.integers(0, 1))
    end = b.draw(st.sampled_from([1, 2, np.iinfo(np.int64).max]))
    size = len(range(x.shape[axis])[start:end])
    name = b.node("Slice", x.name, b.ints(start), b.ints(end), b.ints(axis))
    return Tensor(name, (*x.shape[:axis], size, *x.shape[axis + 1 :]))


def _concat(b: Builder) -> Tensor | None:
    x = b.pick()
    if not x.shape:
        return None
    axis = b.draw(st.integers(0, len(x.shape) - 1))
    count = b.draw(st.integers(1, 2))
    name = b.node("Concat", *[x.name] * count, axis=axis)
    return Tensor(name, (*x.shape[:axis], count * x.shape[axis], *x.shape[axis + 1 :]))


def _nothing(b: Builder) -> Tensor:
    """A Pad by nothing or a Tile of one."""
    x = b.pick()
    if b.draw(st.booleans()) and x.shape:
        return Tensor(b.node("Pad", x.name, b.ints(*[0] * (2 * len(x.shape)))), x.shape)
    return Tensor(b.node("Tile", x.name, b.ints(*[1] * len(x.shape))), x.shape)


def _reduce(b: Builder) -> Tensor | None:
    x = b.pick()
    if not x.shape or 0 in x.shape:
        return None
    axis = b.draw(st.integers(0, len(x.shape) - 1))
    keep = b.draw(st.integers(0, 1))
    name = b.node("ReduceMax", x.name, b.ints(axis), keepdims=keep)
    return Tensor(name, (*x.shape[:axis], *[1] * keep, *x.shape[axis + 1 :]))


def _where(b: Builder) -> Tensor:
    x = b.pick()
    shape = b.node("Shape", x.name)
    same = b.node("Equal", shape, b.sizes(x))
    every = b.node("ReduceMin", b.node("Cast", same, to=TensorProto.INT32), keepdims=0)
    condition = b.node("Cast", every, to=TensorProto.BOOL)
    return Tensor(b.node("Where", condition, x.name, b.node("Neg", x.name)), x.shape)


def _if(b: Builder) -> Tensor | None:
    """An If whose branches read values from around it; perhaps with a known condition."""
    x = b.pick()
    if b.prefix != "v":
        return None
    if b.draw(st.booleans()):
        condition = b.constant(np.array(b.draw(st.booleans())))
    else:
        size = b.node("Size", x.name)
        condition = b.node("Greater", size, b.constant(np.array(b.draw(st.integers(0, 6)))))
    branches = {}
    number = b._count
    for key in ("then_branch", "else_branch"):
        # Both branches may use the same names, which is legal and has broken optimizers.
        inner = Builder(b.draw, f"w{number}_", b.tensors)
        for _ in range(b.draw(st.integers(0, 2))):
            inner.step()
        results = [t for t in inner.tensors if t.shape == x.shape]
        result = inner.node("Identity", b.draw(st.sampled_from(results)).name)
        branches[key] = helper.make_graph(
            inner.nodes,
            key,
            [],
            [helper.make_tensor_value_info(result, TensorProto.FLOAT, None)],
            inner.initializers,
        )
    name = b.fresh()
    b.nodes.append(helper.make_node("If", [condition], [name], **branches))
    return Tensor(name, x.shape)


STEPS = [
    _unary, _twice, _neutral, _binary, _weight, _casts, _transpose, _transpose, _reshape, _reshape,
    _reshape, _expand, _unsqueeze, _unsqueeze, _squeeze, _flatten, _slice, _concat, _nothing,
    _reduce, _where, _if,
]  # fmt: skip


@st.composite
def random_models(draw: st.DrawFn) -> RandomModel:
    """A model with one or two inputs and one to three outputs."""
    inputs: list[Tensor] = []
    infos: list[onnx.ValueInfoProto] = []
    feeds: dict[str, Array] = {}
    seed = draw(st.integers(0, 3))
    for index in range(draw(st.integers(1, 2))):
        shape = tuple(draw(st.lists(st.sampled_from([1, 2, 2, 3, 3, 0]), min_size=1, max_size=3)))
        dims: list[int | str] = []
        for axis, size in enumerate(shape):
            names: list[int | str] = [size, f"size{size}", f"x{index}_{axis}"]
            dims.append(draw(st.sampled_from(names)))
        name = f"x{index}"
        inputs.append(Tensor(name, shape))
        infos.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, dims))
        values = np.random.default_rng(seed).integers(-3, 4, shape).astype(np.float32)
        feeds[name] = values
    builder = Builder(draw, "v", inputs)
    for _ in range(draw(st.integers(2, MAX_NODES))):
        builder.step()
    made = builder.tensors[len(inputs) :] or [_unary(builder)]
    last, others = made[-1], made[:-1]
    outputs = {last.name: last}
    for tensor in draw(st.lists(st.sampled_from(others), max_size=2)) if others else []:
        outputs[tensor.name] = tensor
    graph = helper.make_graph(
        builder.nodes,
        "random",
        infos,
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * len(tensor.shape))
            for name, tensor in outputs.items()
        ],
        builder.initializers,
    )
    imports = [helper.make_opsetid("", OPSET)]
    return RandomModel(helper.make_model(graph, ir_version=11, opset_imports=imports), feeds)
