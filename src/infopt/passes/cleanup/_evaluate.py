"""The value of one standard operator on constants, as ONNX Runtime would compute it.

The common operators are computed with numpy, without copying where the result can be a view
of an operand; more come from ONNX's reference implementation. Operators on neither list, and
operands for which the standard leaves the result open, are an error with its reason.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from infopt.ir.queries import attribute
from infopt.passes.editing import operators

Array = npt.NDArray[Any]
Operands = Sequence[Array | None]

MODERN_OPSET = 13
"""From here on the numpy kernels know the operators; older forms go to the reference."""
MAX_REFERENCE_ELEMENTS = 1 << 20
"""The reference implementation is slow; larger operands are left to the runtime."""
PLAIN_TYPES = frozenset(
    np.dtype(kind) for kind in (np.bool_, np.float16, np.float32, np.float64)
) | frozenset(np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))
"""Types whose arithmetic numpy and ONNX Runtime agree on."""


class CannotEvaluateError(Exception):
    """Why a node's value cannot be computed here."""


def evaluate(node: ir.Node, inputs: Operands, opset: int, max_elements: int) -> list[Array]:
    """The outputs of ``node`` on these operands.

    Args:
        node: A node of the standard domain, without subgraphs.
        inputs: One array for each input, ``None`` for an omitted one. They are not written to.
        opset: The version of the standard domain that the node speaks.
        max_elements: How large an output may be.

    Returns:
        One array for each output; an array may be a view of an operand.

    Raises:
        CannotEvaluateError: With a reason.
    """
    for attr in node.attributes.values():
        if attr.is_ref():
            raise CannotEvaluateError(f"its attribute {attr.name!r} is a parameter of a function")
    operands = [x for x in inputs if x is not None]
    if any(x.dtype.kind in "OSU" for x in operands):
        raise CannotEvaluateError("strings are left to the runtime")
    plain = all(x.dtype in PLAIN_TYPES for x in operands)
    if not plain and node.op_type not in MOVES:
        raise CannotEvaluateError(f"{node.op_type} on this type is left to the runtime")
    modern = opset >= MODERN_OPSET
    kernel = KERNELS.get(node.op_type) if modern else None
    if kernel is None and (node.op_type not in REFERENCE or not plain):
        raise CannotEvaluateError(f"infopt does not evaluate {node.op_type}")
    try:
        elements = _elements(node, inputs) if modern else 0
        if elements > max_elements:
            raise CannotEvaluateError(f"the result would have {elements} elements")
        with np.errstate(all="ignore"):
            if kernel is not None:
                return [np.asarray(kernel(node, inputs))]
            return _reference(node, inputs, opset)
    except CannotEvaluateError:
        raise
    except Exception as error:  # numpy and the reference raise whatever they like
        raise CannotEvaluateError(f"its evaluation failed: {error}") from error


def _elements(node: ir.Node, inputs: Operands) -> int:
    """At most how many elements an output has; 0 where it is no larger than the inputs."""
    op = node.op_type
    arrays = [x for x in inputs if x is not None]
    if op in ELEMENTWISE:
        return math.prod(np.broadcast_shapes(*(x.shape for x in arrays)))
    if op == "Expand":
        return math.prod(np.broadcast_shapes(arrays[0].shape, tuple(_ints(arrays[1]))))
    if op == "ConstantOfShape":
        return math.prod(_ints(arrays[0]))
    if op == "Range":
        return _range_length(*(x.item() for x in arrays))
    if op == "Gather":
        axis_size: int = arrays[0].shape[attribute(node, "axis", 0)]
        return arrays[1].size * (arrays[0].size // max(axis_size, 1))
    if op == "Tile":
        return arrays[0].size * math.prod(_ints(arrays[1]))
    if op == "Pad":
        pads = sum(abs(pad) for pad in _ints(arrays[1]))
        return math.prod(size + pads for size in arrays[0].shape)
    if op == "OneHot":
        return arrays[0].size * int(arrays[1].item())
    if op == "Concat":
        return sum(x.size for x in arrays)
    if op == "MatMul":
        a, b = (x.reshape(1, -1) if x.ndim == 1 else x for x in arrays)
        batch = math.prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
        return batch * int(a.shape[-2]) * int(b.shape[-1])
    return 0 if op in MOVES else max((x.size for x in arrays), default=0)


def _ints(array: Array) -> list[int]:
    return [int(x) for x in array.ravel()]


def _required(inputs: Operands, index: int = 0) -> Array:
    array = inputs[index] if index < len(inputs) else None
    if array is None:
        raise CannotEvaluateError(f"its input {index} is missing")
    return array


def _optional(inputs: Operands, index: int) -> list[int] | None:
    array = inputs[index] if index < len(inputs) else None
    return None if array is None else _ints(array)


# Kernels that only move data: the result is a view wherever numpy can make one.


def _reshape(node: ir.Node, inputs: Operands) -> Array:
    data, target = _required(inputs), _ints(_required(inputs, 1))
    if not attribute(node, "allowzero", 0):
        target = [data.shape[i] if size == 0 else size for i, size in enumerate(target)]
    return data.reshape(target)


def _flatten(node: ir.Node, inputs: Operands) -> Array:
    data, axis = _required(inputs), attribute(node, "axis", 1)
    axis += data.ndim if axis < 0 else 0
    return data.reshape(math.prod(data.shape[:axis]), math.prod(data.shape[axis:]))


def _transpose(node: ir.Node, inputs: Operands) -> Array:
    perm = attribute(node, "perm", ())
    return np.transpose(_required(inputs), perm or None)


def _unsqueeze(_node: ir.Node, inputs: Operands) -> Array:
    return np.expand_dims(_required(inputs), tuple(_ints(_required(inputs, 1))))


def _squeeze(_node: ir.Node, inputs: Operands) -> Array:
    axes = _optional(inputs, 1)
    return np.squeeze(_required(inputs), None if axes is None else tuple(axes))


def _expand(_node: ir.Node, inputs: Operands) -> Array:
    data = _required(inputs)
    shape = np.broadcast_shapes(data.shape, tuple(_ints(_required(inputs, 1))))
    return np.broadcast_to(data, shape)


def _slice(_node: ir.Node, inputs: Operands) -> Array:
    data = _required(inputs)
    starts, ends = _ints(_required(inputs, 1)), _ints(_required(inputs, 2))
    axes = _optional(inputs, 3) or list(range(len(starts)))
    steps = _optional(inputs, 4) or [1] * len(starts)
    window = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = data.shape[axis]
        # A negative bound counts from the end, once; what still is outside is clamped.
        start += size if start < 0 else 0
        end += size if end < 0 else 0
        if step > 0:
            start, end = min(max(start, 0), size), min(max(end, 0), size)
            window[axis] = slice(start, end, step)
        else:
            start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
            window[axis] = slice(start, end if end >= 0 else None, step)
    return data[tuple(window)]


def _gather(node: ir.Node, inputs: Operands) -> Array:
    data, indices = _required(inputs), _required(inputs, 1)
    axis = attribute(node, "axis", 0)
    size = data.shape[axis]
    if indices.size and not (-size <= indices.min() and indices.max() < size):
        raise CannotEvaluateError(f"an index is outside of the axis of size {size}")
    if indices.ndim == 0 and axis == 0:
        return np.asarray(data[int(indices)])
    return np.take(data, indices.astype(np.int64), axis=axis)


def _concat(node: ir.Node, inputs: Operands) -> Array:
    return np.concatenate([x for x in inputs if x is not None], axis=attribute(node, "axis", 0))


def _identity(_node: ir.Node, inputs: Operands) -> Array:
    return _required(inputs)


def _shape(node: ir.Node, inputs: Operands) -> Array:
    shape = _required(inputs).shape
    start, end = attribute(node, "start", 0), attribute(node, "end", len(shape))
    return np.array(shape[start:end], np.int64)


def _size(_node: ir.Node, inputs: Operands) -> Array:
    return np.array(_required(inputs).size, np.int64)


def _constant_of_shape(node: ir.Node, inputs: Operands) -> Array:
    value = node.attributes.get("value")
    fill = np.zeros((), np.float32) if value is None else value.as_tensor().numpy().reshape(())
    return np.broadcast_to(fill, tuple(_ints(_required(inputs))))


# Kernels that compute.


def _range_length(start: float, limit: float, delta: float) -> int:
    if delta == 0:
        raise CannotEvaluateError("the step of the range is 0")
    return max(math.ceil((limit - start) / delta), 0)


def _range(_node: ir.Node, inputs: Operands) -> Array:
    start, limit, delta = (_required(inputs, i) for i in range(3))
    if start.dtype.kind == "f":
        raise CannotEvaluateError("how the steps of a floating-point Range round is left open")
    length = _range_length(start.item(), limit.item(), delta.item())
    return (start + delta * np.arange(length)).astype(start.dtype)


def _where(_node: ir.Node, inputs: Operands) -> Array:
    return np.where(*(_required(inputs, i) for i in range(3)))


def _binary(function: Callable[..., Array]) -> Callable[[ir.Node, Operands], Array]:
    def kernel(_node: ir.Node, inputs: Operands) -> Array:
        return function(_required(inputs), _required(inputs, 1))

    return kernel


def _unary(function: Callable[..., Array]) -> Callable[[ir.Node, Operands], Array]:
    def kernel(_node: ir.Node, inputs: Operands) -> Array:
        data = _required(inputs)
        return np.asarray(function(data)).astype(data.dtype, copy=False)

    return kernel


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.asarray(np.divide(a, b))
    if not np.all(b):
        raise CannotEvaluateError("it divides an integer by zero")
    if a.dtype.kind == "u":
        return np.asarray(a // b)
    if np.any((a == np.iinfo(a.dtype).min) & (b == -1)):
        raise CannotEvaluateError("the quotient overflows its type")
    # numpy rounds down, ONNX towards zero.
    quotient = a // b
    toward_zero = (quotient * b != a) & ((a < 0) != (b < 0))
    return np.asarray(quotient + toward_zero.astype(a.dtype))


def _matmul(a: Array, b: Array) -> Array:
    if a.dtype == np.float16:
        raise CannotEvaluateError("how float16 sums are accumulated is left open")
    return np.asarray(np.matmul(a, b))


def _cast(node: ir.Node, inputs: Operands) -> Array:
    return _convert(_required(inputs), ir.DataType(attribute(node, "to", 0)).numpy())


def _cast_like(node: ir.Node, inputs: Operands) -> Array:
    # Only the type of the second operand matters; its value need not be known.
    to = node.outputs[0].dtype
    if to is None:
        raise CannotEvaluateError("the type of its second input is not known")
    return _convert(_required(inputs), to.numpy())


def _convert(data: Array, to: np.dtype[Any]) -> Array:
    if data.dtype not in PLAIN_TYPES or to not in PLAIN_TYPES:
        raise CannotEvaluateError(f"the cast from {data.dtype} to {to} is left to the runtime")
    if data.dtype.kind == "f" and to.kind in "iu" and data.size:
        bounds, whole = np.iinfo(to), np.trunc(data.astype(np.float64))
        if not (np.all(whole >= float(bounds.min)) and np.all(whole < float(bounds.max) + 1.0)):
            raise CannotEvaluateError(f"a value is outside of {to}; the standard leaves that open")
    return data.astype(to)


MOVES: dict[str, Callable[[ir.Node, Operands], Array]] = {
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}

KERNELS: dict[str, Callable[[ir.Node, Operands], Array]] = MOVES | {
    "Abs": _unary(np.abs),
    "Add": _binary(np.add),
    "And": _binary(np.logical_and),
    "Cast": _cast,
    "CastLike": _cast_like,
    "Ceil": _unary(np.ceil),
    "Div": _binary(_divide),
    "Equal": _binary(np.equal),
    "Floor": _unary(np.floor),
    "Greater": _binary(np.greater),
    "GreaterOrEqual": _binary(np.greater_equal),
    "Less": _binary(np.less),
    "LessOrEqual": _binary(np.less_equal),
    "MatMul": _binary(_matmul),
    "Mul": _binary(np.multiply),
    "Neg": _unary(np.negative),
    "Not": _unary(np.logical_not),
    "Or": _binary(np.logical_or),
    "Range": _range,
    "Sqrt": _unary(np.sqrt),
    "Sub": _binary(np.subtract),
    "Where": _where,
    "Xor": _binary(np.logical_xor),
}

REFERENCE = operators(
    """
    Acos Acosh ArgMax ArgMin Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr
    BitwiseXor Celu Clip Compress Cos Cosh CumSum DepthToSpace Einsum Elu Erf Exp EyeLike
    GatherElements GatherND Gelu Gemm HardSigmoid HardSwish IsInf IsNaN LeakyRelu Log LogSoftmax
    Max Mean Min Mish Mod NonZero OneHot PRelu Pad Pow Reciprocal ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
    Round ScatterElements ScatterND Selu Sigmoid Sign Sin Sinh Softmax Softplus Softsign
    SpaceToDepth Split Sum Tan Tanh ThresholdedRelu Tile TopK Trilu
    """
) | frozenset(KERNELS) - {"Range", "ConstantOfShape"}
"""Operators that the reference computes vectorized, deterministically, and as the runtime does."""

ELEMENTWISE = operators(
    """
    Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less
    LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor
    """
)
"""Operators whose inputs are broadcast against each other."""


def _reference(node: ir.Node, inputs: Operands, opset: int) -> list[Array]:
    operands = [x for x in inputs if x is not None]
    if sum(x.size for x in operands) > MAX_REFERENCE_ELEMENTS:
        raise CannotEvaluateError(f"its operands are too large to evaluate {node.op_type} here")
    if any(x.dtype == np.float16 for x in operands):
        raise CannotEvaluateError(f"{node.op_type} of float16 is left to the runtime")
    if (
        node.op_type in ("Mod", "Div")
        and operands[0].dtype.kind in "iu"
        and not np.all(operands[1])
    ):
        raise CannotEvaluateError("it divides an integer by zero")
    proto = onnx.NodeProto(op_type=node.op_type)
    proto.attribute.extend(ir.to_proto(attr) for attr in node.attributes.values())
    proto.input.extend("" if x is None else f"i{index}" for index, x in enumerate(inputs))
    proto.output.extend(f"o{index}" if out.name else "" for index, out in enumerate(node.outputs))
    run = _evaluator(proto.SerializeToString(deterministic=True), opset)
    feeds = {f"i{index}": x for index, x in enumerate(inputs) if x is not None}
    results = iter(run.run(None, feeds))
    return [np.asarray(next(results)) if out.name else np.zeros(0) for out in node.outputs]


@functools.lru_cache(maxsize=512)
def _evaluator(serialized: bytes, opset: int) -> ReferenceEvaluator:
    node = onnx.NodeProto.FromString(serialized)
    values = {
        name: onnx.helper.make_value_info(name, onnx.TypeProto())
        for name in [*node.input, *node.output]
        if name
    }
    graph = onnx.helper.make_graph(
        [node],
        "one_node",
        [values[name] for name in dict.fromkeys(node.input) if name],
        [values[name] for name in node.output if name],
    )
    imports = [onnx.helper.make_opsetid("", opset)]
    return ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=imports))
