"""simplify-einsum: sums of products that are a matrix product are written as one."""

from __future__ import annotations

import dataclasses
import math
import string
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.rewriting import Answer, Builder, Found, Miss, Rewrite
from infopt.passes.sizes import Sizes

RULE = "einsum"


Place = tuple[ir.Value, int]
"""An axis of a value, which tells the size of a letter."""


@dataclasses.dataclass(frozen=True)
class Operand:
    """A value, and the letter of each of its axes."""

    letters: str
    places: tuple[Place, ...]
    """For each letter where its size can be seen."""
    computed: ir.Value | None = None
    """``None`` as long as the product of the operands before it is not written."""

    @classmethod
    def of(cls, value: ir.Value, letters: str) -> Operand:
        """An input of the Einsum."""
        return cls(letters, tuple((value, axis) for axis in range(len(letters))), value)

    @property
    def value(self) -> ir.Value:
        """The value, once it is written."""
        assert self.computed is not None
        return self.computed

    def number(self, sizes: Sizes, letter: str) -> int | None:
        """The size of a letter, if it is a known number."""
        return sizes.number(*self.places[self.letters.index(letter)])

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

    def after(self, former: ir.Value) -> Product:
        """The same with the product before it written."""
        left, right = (
            dataclasses.replace(x, computed=former) if x.computed is None else x
            for x in (self.left, self.right)
        )
        return dataclasses.replace(self, left=left, right=right)


@dataclasses.dataclass(frozen=True)
class SimplifyEinsum(Rewrite):
    """``Einsum("bqhd,bkhd->bhqk", x, y)`` becomes a ``MatMul`` of ``x`` and ``y``, transposed.

    A letter that both operands and the output have is a batch axis of the MatMul; one that the
    output lacks is summed over; the others are rows or columns. Where nothing is summed over, it
    becomes a ``Mul``; an Einsum of one operand that only orders its axes, a ``Transpose``.
    Several letters that are summed over, or several columns, become one axis by a Reshape, for
    which their sizes must be known.

    More than two operands are contracted from left to right, pair by pair. An ellipsis is as many
    letters as the operands have axes there, broadcast like them.

    Two dimensions with the same name are believed to be as long where they are summed over: a
    MatMul in which they are not fails.
    """

    name: ClassVar[str] = "simplify-einsum"
    anchors: ClassVar[frozenset[str]] = frozenset({"Einsum"})

    def look(self, node: ir.Node, sizes: Sizes) -> Answer:
        values = [value for value in node.inputs if value is not None]
        parsed = _parsed(queries.attribute(node, "equation", ""), list(map(sizes.rank, values)))
        if isinstance(parsed, str):
            return Miss(RULE, parsed)
        terms, output = parsed
        if any(len(set(term)) < len(term) for term in terms):
            return Miss(RULE, "it takes a diagonal")
        if len(terms) != len(values):
            return Miss(RULE, f"it has {len(values)} operands, and its equation has {len(terms)}")
        if len(values) == 1:
            x, letters = values[0], terms[0]
            if sorted(letters) != sorted(output):
                return Miss(RULE, "it sums over one operand")
            return Found(RULE, lambda to: _transposed(to, x, letters, output, node.outputs[0]))
        products = _pairs(list(map(Operand.of, values, terms)), output, sizes)
        if isinstance(products, str):
            return Miss(RULE, products)

        def build(to: Builder) -> ir.Value:
            result = values[0]
            for product in products:
                like = node.outputs[0] if product is products[-1] else None
                result = _written(to, product.after(result), like)
            return result

        return Found(RULE, build)


def _parsed(equation: str, ranks: Sequence[int | None]) -> tuple[list[str], str] | str:
    """The letters of each operand, and those of the output; or why they cannot be told."""
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if not arrow:
        letters = "".join(terms).replace(".", "")
        output = "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
        output = "..." * ("..." in inputs) + output
    if "..." not in inputs:
        return terms, output
    if "..." not in output:
        return "it sums over an ellipsis"
    # ONNX gives all ellipses of an equation as many axes.
    counts = {
        None if rank is None else rank - len(term) + len("...")
        for term, rank in zip(terms, ranks, strict=False)
        if "..." in term
    }
    count = counts.pop()
    if count is None or counts:
        return "it has an ellipsis for an unknown number of axes"
    free = [letter for letter in string.ascii_letters if letter not in equation]
    hidden = "".join(free[:count])
    return [term.replace("...", hidden) for term in terms], output.replace("...", hidden)


def _pairs(operands: Sequence[Operand], output: str, sizes: Sizes) -> list[Product] | str:
    """The products that contract the operands from left to right; or why there is one that cannot.

    The left operand of each but the first is the result of the one before.
    """
    left, *others = operands
    products: list[Product] = []
    for index, right in enumerate(others, 1):
        last = index == len(others)
        later = {*output}.union(*(x.letters for x in others[index:]))
        if ({*left.letters} ^ {*right.letters}) - later:
            return "it sums over an axis that only one operand has"
        target = output if last else _natural(left.letters, right.letters, later)
        product = Product(left, right, target, _numbers(sizes, left, right))
        if product.inner:
            # The better form has the rows last; the other one may need fewer sizes.
            forms = [product, product.turned()]
            if len(product.rows) == 1 and target[-1] in product.rows:
                forms.reverse()
            reasons = [_misfit(form, sizes) for form in forms]
            if all(reasons):
                return str(reasons[0])
            product = forms[reasons.index(None)]
        products.append(product)
        left = Operand(target, tuple(_place(x, left, right, sizes) for x in target))
    return products


def _natural(left: str, right: str, later: set[str]) -> str:
    """The letters of a product in the order in which a MatMul leaves them."""
    both = [x for x in left if x in right and x in later]
    rows, columns = ([x for x in a if x not in b] for a, b in ((left, right), (right, left)))
    return "".join([*both, *rows, *columns])


def _place(letter: str, left: Operand, right: Operand, sizes: Sizes) -> Place:
    """Where the size of a letter can be seen: not on an axis of one that is broadcast."""
    places = [x.places[x.letters.index(letter)] for x in (left, right) if letter in x.letters]
    return next((place for place in places if sizes.number(*place) != 1), places[0])


def _written(to: Builder, product: Product, like: ir.Value | None) -> ir.Value:
    if product.inner:
        return _matmul(to, product, like)
    both = (product.left, product.right)
    return to.op("Mul", *(x.ordered(to, product.output) for x in both), like=like)


def _numbers(sizes: Sizes, *operands: Operand) -> dict[str, int]:
    """The letters whose size is one number wherever they stand."""
    found: dict[str, set[int | None]] = {}
    for operand in operands:
        for letter in operand.letters:
            found.setdefault(letter, set()).add(operand.number(sizes, letter))
    return {
        letter: number
        for letter, numbers in found.items()
        if len(numbers) == 1 and (number := min(numbers, key=str)) is not None
    }


def _misfit(product: Product, sizes: Sizes) -> str | None:
    left, right = product.left, product.right
    for letter in product.inner:
        here, there = (x.places[x.letters.index(letter)] for x in (left, right))
        if letter not in product.sizes and not sizes.agree(*here, *there):
            return f"the sizes of {letter!r}, which it sums over, may differ"
    merged = product.inner if len(product.inner) > 1 else ""
    if merged or len(product.columns) > 1:
        merged += product.columns
    unknown = sorted({*merged} - product.sizes.keys())
    if unknown:
        return f"the size of {', '.join(map(repr, unknown))} is known only at run time"
    return None


def _matmul(to: Builder, product: Product, output: ir.Value | None) -> ir.Value:
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
    plain = batch + rows + columns
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
