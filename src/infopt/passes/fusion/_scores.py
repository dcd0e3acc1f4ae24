"""The scores of an attention: from the input of its Softmax back to queries, keys and masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.fusion._heads import transposed, unflattened
from infopt.passes.matching import either_way, produced_by, scalar, with_scalar
from infopt.passes.rewriting import Builder
from infopt.passes.sizes import Sizes

LOWEST = {
    ir.DataType.FLOAT: -1e38,
    ir.DataType.DOUBLE: -1e38,
    ir.DataType.BFLOAT16: -1e38,
    ir.DataType.FLOAT16: -6e4,
}
"""Numbers below this are "the lowest of the type", which runtimes take for a ban."""

BAN = {**dict.fromkeys(LOWEST, -1e9), ir.DataType.FLOAT16: -6e4}
"""A number as low as this, put in the place of a score, bans a key. Added to a score instead, it
leaves nothing of it, so that a row of nothing but bans is even either way."""


@dataclasses.dataclass(frozen=True)
class Added:
    """A term that is added to the scores."""

    value: ir.Value
    factor: float
    """What the sum is multiplied by afterwards."""
    heads: int = 0
    """Into how many heads its first axis is split afterwards; 0 if it is not."""


@dataclasses.dataclass(frozen=True)
class Banned:
    """Scores that are replaced by a number where a condition says so."""

    condition: ir.Value
    number: float
    where: bool
    """The scores are replaced where the condition is this."""


@dataclasses.dataclass(frozen=True)
class Scores:
    """``softcap(queries · keysᵀ · scale) + masks``."""

    queries: ir.Value
    keys: ir.Value
    """Not yet transposed back."""
    permutation: tuple[int, ...] | None
    """How the keys are transposed to give what they are; ``None`` if they are not transposed."""
    scale: float = 1.0
    softcap: float = 0.0
    masks: tuple[Added | Banned, ...] = ()
    """From the inside to the outside."""
    flat: bool = False
    """Whether batch and heads are still one axis of the scores."""


def scores(value: ir.Value | None, sizes: Sizes) -> Scores | str | None:
    """What the input of a Softmax is made of; why it is none; or ``None``: no scores at all."""
    return _peel(value, 1.0, sizes)


def _peel(value: ir.Value | None, factor: float, sizes: Sizes) -> Scores | str | None:
    """Take one operation off; ``factor`` is what the result is multiplied by further out."""
    node = produced_by(value, *_STEPS)
    if node is None:
        return None
    found = _STEPS[node.op_type](node, factor, sizes)
    if isinstance(found, Scores) and _is_shared(node.outputs[0]):
        return f"the scores {node.outputs[0].name!r} are read elsewhere, too"
    return found


def _is_shared(value: ir.Value) -> bool:
    """Whether more than one node reads ``value``, those not counted that ask for its shape."""
    readers = [use.node for use in value.uses() if not queries.is_standard(use.node, "Shape")]
    return value.is_graph_output() or len(readers) > 1


def _product(node: ir.Node, factor: float, sizes: Sizes) -> Scores | str | None:
    left, right = node.inputs[0], node.inputs[1]
    if left is None or right is None or queries.constant_tensor(right) is not None:
        return None
    if (sizes.rank(left), sizes.rank(right)) not in ((4, 4), (3, 3)):
        count = sizes.rank(node.outputs[0])
        return f"the scores have rank {count}, not 4 with an axis for the heads"
    q, scale_q = _unscaled(left, sizes)
    k, scale_k = _unscaled(right, sizes)
    found = transposed(k, sizes)
    if found is None:
        result = Scores(q, k, None, factor * scale_q * scale_k)
    else:
        source, scale = _unscaled(found[0], sizes)
        result = Scores(q, source, found[1], factor * scale_q * scale_k * scale)
    return result if sizes.rank(left) == 4 else _with_heads(result, sizes)


def _with_heads(found: Scores, sizes: Sizes) -> Scores | str:
    """Scores of which batch and heads were one axis, with two."""
    q, k = unflattened(found.queries, sizes), unflattened(found.keys, sizes)
    if q is None or k is None or found.permutation not in (None, (0, 2, 1)):
        return "the scores have rank 3, and not because batch and heads were made one axis"
    permutation = None if found.permutation is None else (0, 1, 3, 2)
    return dataclasses.replace(found, queries=q, keys=k, permutation=permutation, flat=True)


def _split_again(node: ir.Node, factor: float, sizes: Sizes) -> Scores | str | None:
    """A Reshape that makes two axes of batch and heads again."""
    flat = node.inputs[0]
    found = _peel(flat, factor, sizes)
    if not isinstance(found, Scores):
        return found
    before, after = sizes.shape(flat), sizes.shape(node.outputs[0])
    heads = sizes.number(found.queries, 1)
    if before is None or after is None or not found.flat or (len(before), len(after)) != (3, 4):
        return "the scores are reshaped"
    # The elements are as many, so one of the last axes tells the other.
    kept = after[2] == before[1] or after[3] == before[2]
    if not kept and not sizes.agree(node.outputs[0], 2, found.queries, 2):
        return "the scores are reshaped"
    if heads is None or after[1] != heads:
        return "the scores are reshaped, and not to an axis for the heads"
    masks: list[Added | Banned] = []
    for mask in found.masks:
        sizes_of_mask = None if isinstance(mask, Banned) else sizes.shape(mask.value)
        if isinstance(mask, Banned) or sizes_of_mask is None or len(sizes_of_mask) != 3:
            return "a mask without an axis for the heads is added before they have one"
        if 1 in sizes_of_mask:
            return "a mask is broadcast before the heads have an axis"
        masks.append(dataclasses.replace(mask, heads=heads))
    return dataclasses.replace(found, masks=tuple(masks), flat=False)


def _unscaled(value: ir.Value, sizes: Sizes) -> tuple[ir.Value, float]:
    """``x`` and ``s`` of ``x * s``, or ``value`` and 1."""
    number = 1.0
    while True:
        node = produced_by(value, "Mul", "Div")
        found = None if node is None else _scaled(node, sizes)
        if found is None:
            return value, number
        value, number = found[0], number * found[1]


def _scaled(node: ir.Node, sizes: Sizes) -> tuple[ir.Value, float] | None:
    """``x`` and ``s`` if ``node`` computes ``x * s`` and ``s`` does not raise the rank."""
    if node.op_type == "Div":
        divisor, x = scalar(node.inputs[1]), node.inputs[0]
        found = None if not divisor or x is None else (x, 1 / divisor)
    else:
        found = with_scalar(node)
    if found is None or sizes.rank(found[0]) != sizes.rank(node.outputs[0]):
        return None
    return found


def _scaling(node: ir.Node, factor: float, sizes: Sizes) -> Scores | str | None:
    found = _scaled(node, sizes)
    if found is None:
        return None
    tanh = produced_by(found[0], "Tanh")
    if tanh is None:
        return _peel(found[0], factor * found[1], sizes)
    inner = _peel(tanh.inputs[0], 1.0, sizes)
    if not isinstance(inner, Scores):
        return inner
    if inner.masks or inner.softcap:
        return "a mask is added before the scores are capped"
    cap = found[1]
    if factor != 1.0:
        return "the capped scores are scaled"
    # softcap * tanh(s / softcap): the operator divides by the cap, the scale holds the rest
    return dataclasses.replace(inner, scale=inner.scale * cap, softcap=cap)


def _sum(node: ir.Node, factor: float, sizes: Sizes) -> Scores | str | None:
    reason: str | None = None
    for inside, mask in either_way(node):
        found = _peel(inside, factor, sizes)
        if isinstance(found, Scores):
            if sizes.rank(inside) != sizes.rank(node.outputs[0]):
                return "a mask raises the rank of the scores"
            return dataclasses.replace(found, masks=(*found.masks, Added(mask, factor)))
        reason = reason or found
    return reason


def _difference(node: ir.Node, factor: float, sizes: Sizes) -> Scores | str | None:
    found, mask = _peel(node.inputs[0], factor, sizes), node.inputs[1]
    if not isinstance(found, Scores) or mask is None:
        return found
    return dataclasses.replace(found, masks=(*found.masks, Added(mask, -factor)))


def _choice(node: ir.Node, factor: float, sizes: Sizes) -> Scores | str | None:
    condition = node.inputs[0]
    for inside, other, where in (
        (node.inputs[2], node.inputs[1], True),
        (node.inputs[1], node.inputs[2], False),
    ):
        number = scalar(other)
        if number is None or condition is None:
            continue
        found = _peel(inside, factor, sizes)
        if not isinstance(found, Scores):
            return found
        dtype = node.outputs[0].dtype
        if dtype is None or not number * factor <= BAN.get(dtype, -np.inf):
            return f"scores are replaced by {number * factor:g}, which is no ban"
        ban = Banned(condition, number * factor, where)
        return dataclasses.replace(found, masks=(*found.masks, ban))
    return None


def _cast(node: ir.Node, factor: float, sizes: Sizes) -> Scores | str | None:
    """Scores may be cast up for the Softmax; the operator then says so itself."""
    return _peel(node.inputs[0], factor, sizes)


_STEPS = {
    "MatMul": _product,
    "Add": _sum,
    "Sub": _difference,
    "Mul": _scaling,
    "Div": _scaling,
    "Where": _choice,
    "Cast": _cast,
    "Reshape": _split_again,
}


def misfit(found: Scores, sizes: Sizes) -> str | None:
    """Why a mask of these scores is none that the operator takes; ``None`` if all are."""
    q = [sizes.number(found.queries, axis) for axis in range(3)]
    for mask in found.masks:
        value = mask.value if isinstance(mask, Added) else mask.condition
        shape = sizes.shape(value)
        if shape is None or not shape or shape[-1] == 1:
            return "a mask is the same for all keys"
        flat = isinstance(mask, Added) and mask.heads  # batch and heads are one axis still
        for own, other in zip(shape[-2::-1], q[:1:-1] if flat else q[::-1], strict=False):
            if isinstance(own, int) and isinstance(other, int) and own not in (1, other):
                return "a mask broadcasts the scores"
        if (
            isinstance(mask, Added)
            and value.dtype != found.queries.dtype
            and not _is_boolean(value)
        ):
            return f"a mask is {value.dtype}, the queries are {found.queries.dtype}"
    return None


def _is_boolean(mask: ir.Value) -> bool:
    """Whether ``mask`` is zero here and minus infinity there by a condition."""
    node = produced_by(mask, "Where")
    numbers = [] if node is None else [scalar(value) for value in node.inputs[1:]]
    return 0.0 in numbers and any(x is not None and np.isneginf(x) for x in numbers)


def write_mask(
    to: Builder, masks: tuple[Added | Banned, ...], dtype: ir.DataType
) -> ir.Value | None:
    """One mask for all: boolean (true where a key is attended to) if it can be, else added."""
    total: ir.Value | None = None
    for mask in masks:
        if isinstance(mask, Added):
            value = mask.value
            if mask.heads:
                rest = to.op("Shape", value, start=1)
                split = to.constant(np.array([-1, mask.heads]), "heads")
                value = to.op("Reshape", value, to.op("Concat", split, rest, axis=0))
            term = _simplest(to, value)
            if term.dtype != ir.DataType.BOOL:
                term = _portable(to, term)
                if mask.factor != 1.0:
                    term = to.op("Mul", term, _number(to, mask.factor, dtype))
            total = term if total is None else _both(to, total, term, dtype)
        else:
            allowed = mask.condition if not mask.where else to.op("Not", mask.condition)
            if np.isneginf(mask.number):
                total = allowed if total is None else _both(to, total, allowed, dtype)
            else:
                number = _number(to, _finite(mask.number, dtype), dtype)
                base = _number(to, 0.0, dtype) if total is None else _added(to, total, dtype)
                total = to.op("Where", allowed, base, number)
    return total


def _simplest(to: Builder, mask: ir.Value) -> ir.Value:
    """The mask, or the boolean of which ``Where(b, 0, -inf)`` made it."""
    node = produced_by(mask, "Where")
    if node is None or node.inputs[0] is None or not _is_boolean(mask):
        return mask
    return node.inputs[0] if scalar(node.inputs[1]) == 0.0 else to.op("Not", node.inputs[0])


def _added(to: Builder, mask: ir.Value, dtype: ir.DataType) -> ir.Value:
    """A mask as a term to add."""
    if mask.dtype != ir.DataType.BOOL:
        return mask
    return to.op("Where", mask, _number(to, 0.0, dtype), _number(to, -np.inf, dtype))


def _both(to: Builder, first: ir.Value, second: ir.Value, dtype: ir.DataType) -> ir.Value:
    if first.dtype == second.dtype == ir.DataType.BOOL:
        return to.op("And", first, second)
    return to.op("Add", _added(to, first, dtype), _added(to, second, dtype))


def _number(to: Builder, number: float, dtype: ir.DataType) -> ir.Value:
    return to.constant(np.array(number, dtype.numpy()), "mask")


def _finite(number: float, dtype: ir.DataType) -> float:
    """``number``, or half of it where it is the lowest of the type.

    A row of nothing but bans attends to every key alike where a ban is a finite number. Runtimes
    take the lowest number of a type for minus infinity, and return zeros for such a row.
    """
    return number / 2 if number < LOWEST.get(dtype, -np.inf) and np.isfinite(number) else number


_MOVES = ("Unsqueeze", "Expand", "Slice", "Reshape", "Transpose", "Squeeze", "Gather")


def _portable(to: Builder, mask: ir.Value) -> ir.Value:
    """The same mask, in which the lowest number of the type is half as low (see _finite)."""
    node = produced_by(mask, "Where", "Mul", "Sub", "Add", "Cast", *_MOVES)
    if node is None or mask.dtype is None:
        return mask
    inputs = list(node.inputs)
    for index, value in _terms(node):
        number = scalar(value)
        if number is None:
            inputs[index] = _portable(to, value)
        elif _finite(number, mask.dtype) != number and node.op_type in ("Where", "Mul"):
            constant = np.full(queries.static_shape(value) or (), _finite(number, mask.dtype))
            inputs[index] = to.constant(constant.astype(mask.dtype.numpy()), "mask")
    if all(new is old for new, old in zip(inputs, node.inputs, strict=True)):
        return mask
    attributes = {name: attr.value for name, attr in node.attributes.items()}
    return to.op(node.op_type, *inputs, like=mask, **attributes)


def _terms(node: ir.Node) -> Iterator[tuple[int, ir.Value]]:
    """The inputs of a node that may hold the numbers of a mask."""
    first = 1 if node.op_type == "Where" else 0
    last = 1 if node.op_type in _MOVES else len(node.inputs)
    for index in range(first, last):
        value = node.inputs[index]
        if value is not None and value.dtype == node.outputs[0].dtype:
            yield index, value
