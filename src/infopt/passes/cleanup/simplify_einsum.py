"""simplify-einsum: sums of products that are a matrix product are written as one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

RULE = "einsum"


@dataclasses.dataclass(frozen=True)
class Operand:
    """A value, and the letter of each of its axes."""

    value: ir.Value
    letters: str

    def ordered(self, to: Builder, letters: str) -> ir.Value:
        """The value with its axes in this order, and axes of one for letters it does not have."""
        own = "".join(letter for letter in letters if letter in self.letters)
        value = _transposed(to, self.value, self.letters, own)
        missing = [axis for axis, letter in enumerate(letters) if letter not in self.letters]
        return to.op("Unsqueeze", value, _ints(to, missing)) if missing else value


@dataclasses.dataclass(frozen=True)
class Product:
    """``batch, rows, inner`` times ``batch, inner, columns``; one letter is one axis."""

    left: Operand
    right: Operand
    output: str
    sizes: dict[str, int]
    """The letters whose sizes are numbers."""

    @property
    def batch(self) -> str:
        """What all three have."""
        return "".join(x for x in self.output if x in self.left.letters and x in self.right.letters)

    @property
    def inner(self) -> str:
        """What is summed over."""
        both = [x for x in self.left.letters if x in self.right.letters]
        return "".join(x for x in both if x not in self.output)

    @property
    def rows(self) -> str:
        """What only the left operand has."""
        return "".join(x for x in self.output if x not in self.right.letters)

    @property
    def columns(self) -> str:
        """What only the right operand has."""
        return "".join(x for x in self.output if x not in self.left.letters)

    def turned(self) -> Product:
        """The same with its operands exchanged."""
        return dataclasses.replace(self, left=self.right, right=self.left)


@dataclasses.dataclass(frozen=True)
class SimplifyEinsum(Rewrite):
    """``Einsum("bqhd,bkhd->bhqk", x, y)`` becomes a ``MatMul`` of ``x`` and ``y``, transposed.

    A letter that both operands and the output have is a batch axis of the MatMul; one that the
    output lacks is summed over; the others are rows or columns. Where nothing is summed over, it
    becomes a ``Mul``; an Einsum of one operand that only orders its axes, a ``Transpose``.
    Several letters that are summed over, or several columns, become one axis by a Reshape, for
    which their sizes must be known.

    Two dimensions with the same name are believed to be as long where they are summed over: a
    MatMul in which they are not fails.
    """

    name: ClassVar[str] = "simplify-einsum"
    anchors: ClassVar[frozenset[str]] = frozenset({"Einsum"})

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        operands = [value for value in node.inputs if value is not None]
        terms, output = _parsed(queries.attribute(node, "equation", ""))
        if "." in "".join(terms):
            return Miss(RULE, "its equation has an ellipsis")
        if any(len(set(term)) < len(term) for term in terms):
            return Miss(RULE, "it takes a diagonal")
        if len(terms) != len(operands) or len(operands) > 2:
            return Miss(RULE, f"it has {len(operands)} operands")
        if len(operands) == 1:
            x, letters = operands[0], terms[0]
            if sorted(letters) != sorted(output):
                return Miss(RULE, "it sums over one operand")
            return Found(RULE, lambda to: _transposed(to, x, letters, output, node.outputs[0]))
        left, right = map(Operand, operands, terms)
        alone = {*left.letters} ^ {*right.letters}
        if alone - {*output}:
            return Miss(RULE, "it sums over an axis that only one operand has")
        product = Product(left, right, output, _numbers(sizes, left, right))
        if not product.inner:
            both = [left, right]
            return Found(
                RULE,
                lambda to: to.op(
                    "Mul", *(x.ordered(to, output) for x in both), like=node.outputs[0]
                ),
            )
        if len(product.rows) == 1 and output[-1] in product.rows:
            product = product.turned()  # so that the rows come last
        reason = _misfit(product, sizes)
        return Miss(RULE, reason) if reason else Found(RULE, lambda to: _matmul(to, product, node))


def _parsed(equation: str) -> tuple[list[str], str]:
    """The letters of each operand, and those of the output."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow:
        letters = "".join(terms)
        output = "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    return terms, output


def _numbers(sizes: Sizes, *operands: Operand) -> dict[str, int]:
    """The letters whose size is one number wherever they stand."""
    found: dict[str, set[int | None]] = {}
    for operand in operands:
        for axis, letter in enumerate(operand.letters):
            found.setdefault(letter, set()).add(sizes.number(operand.value, axis))
    return {
        letter: number
        for letter, numbers in found.items()
        if len(numbers) == 1 and (number := min(numbers, key=str)) is not None
    }


def _misfit(product: Product, sizes: Sizes) -> str | None:
    left, right = product.left, product.right
    for letter in product.inner:
        places = left.letters.index(letter), right.letters.index(letter)
        if letter not in product.sizes and not sizes.agree(
            left.value, places[0], right.value, places[1]
        ):
            return f"the sizes of {letter!r}, which it sums over, may differ"
    merged = product.inner if len(product.inner) > 1 else ""
    if merged or len(product.columns) > 1:
        merged += product.columns
    unknown = sorted({*merged} - product.sizes.keys())
    if unknown:
        return f"the size of {', '.join(map(repr, unknown))} is known only at run time"
    return None


def _matmul(to: Builder, product: Product, node: ir.Node) -> ir.Value:
    batch, rows, inner, columns = product.batch, product.rows, product.inner, product.columns
    a = product.left.ordered(to, batch + (rows or "0") + inner)
    # Several rows are batches of the MatMul, too; of matrices, whatever their number.
    broadcast = "0" * (len(rows) - 1) if batch else ""
    b = product.right.ordered(to, batch + broadcast + inner + (columns or "0"))
    if len(inner) > 1:
        length = math.prod(product.sizes[x] for x in inner)
        a = to.op("Reshape", a, _ints(to, [*[0] * len(batch + (rows or "0")), length]))
    if len(inner) > 1 or len(columns) > 1:
        ends = [math.prod(product.sizes[x] for x in letters) for letters in (inner, columns)]
        kept = [0] * len(batch + broadcast)
        if len(inner) == 1:
            ends[0] = 0
        b = to.op("Reshape", b, _ints(to, [*kept, *ends]))
    output, plain = node.outputs[0], batch + rows + columns
    like = output if plain == product.output else None
    direct = rows and len(columns) == 1
    value = to.op("MatMul", a, b, like=like if direct else None)
    if len(columns) > 1:
        kept = [0] * len(batch + (rows or "0"))
        value = to.op("Reshape", value, _ints(to, [*kept, *(product.sizes[x] for x in columns)]))
    spare = [len(batch)] if not rows else []
    if not columns:
        spare.append(len(batch + (rows or "0")))
    if spare:
        value = to.op("Squeeze", value, _ints(to, spare))
    return _transposed(to, value, plain, product.output, output)


def _transposed(
    to: Builder, value: ir.Value, letters: str, wanted: str, like: ir.Value | None = None
) -> ir.Value:
    if letters == wanted:
        return value
    return to.op("Transpose", value, like=like, perm=[letters.index(x) for x in wanted])


def _ints(to: Builder, numbers: Sequence[int]) -> ir.Value:
    return to.constant(np.array(numbers, np.int64), "axes")
