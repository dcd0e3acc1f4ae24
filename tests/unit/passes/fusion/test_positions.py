"""What is known of elements by their places is what a runtime computes there."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from infopt.passes.fusion._lines import Border, Line, Places
from infopt.passes.fusion._positions import Positions
from infopt.passes.sizes import Sizes
from tests.support.models import Array, parse, run

HEAD = """g (float[B,S,T] x) => ({kind}[{rank}] y)
<int64 zero = {{0}}, int64 one = {{1}}, int64 two = {{2}}, int64[1] first = {{0}},
 int64[1] second = {{1}}, int64[1] third = {{2}}, int64[1] end = {{9223372036854775807}},
 float nought = {{0.0}}, float ban = {{-10000.0}}, bool yes = {{1}}, float unit = {{1.0}},
 int64[1] minus = {{-1}}>
{{
  b1 = Shape <start = 0, end = 1> (x)
  s1 = Shape <start = 1, end = 2> (x)
  t1 = Shape <start = 2, end = 3> (x)
  s = Squeeze(s1, first)
  t = Squeeze(t1, first)
  rows = Range(zero, s, one)
  row = Unsqueeze(rows, second)
  columns = Range(zero, t, one)
  column = Unsqueeze(columns, first)
  st = Concat <axis = 0> (s1, t1)
  {body}
}}"""
CAUSAL = "allowed = LessOrEqual(column, row)"

KNOWN = {
    "range": ("int64", "R", "y = Add(rows, two)"),
    "counting by two": ("int64", "R", "r = Range(one, s, two) y = Sub(r, one)"),
    "expanded": ("int64", "R,S", "y = Expand(column, st)"),
    "expanded and tiled": (
        "int64",
        "B,R",
        "u = Unsqueeze(rows, first) n = Concat <axis = 0> (b1, second) y = Tile(u, n)",
    ),
    "transposed": ("int64", "R,S", "e = Expand(row, st) y = Transpose <perm = [1, 0]> (e)"),
    "one where": ("int64", "R", "e = Expand(one, s1) z = Mul(e, zero) y = Add(z, rows)"),
    "sliced": ("int64", "R", "y = Slice(rows, second, end, first)"),
    "one longer": (
        "int64",
        "R",
        "k = Range(zero, two, one) f = Slice(k, first, second, first) b = Sub(f, one) "
        "y = Concat <axis = 0> (b, rows)",
    ),
    "causal": ("bool", "R,S", f"{CAUSAL} y = Identity(allowed)"),
    "later": ("bool", "R,S", "y = Greater(column, row)"),
    "strictly earlier": ("bool", "R,S", "y = Less(column, row)"),
    "not later": ("bool", "R,S", "g = Greater(column, row) y = Not(g)"),
    "at least": ("bool", "R,S", "y = GreaterOrEqual(row, column)"),
    "shifted": ("bool", "R,S", "r = Add(row, two) y = LessOrEqual(column, r)"),
    "and always": ("bool", "R,S", f"{CAUSAL} y = And(yes, allowed)"),
    "or always": ("bool", "R,S", f"{CAUSAL} e = Expand(yes, st) y = Or(e, allowed)"),
    "as numbers": ("float", "R,S", f"{CAUSAL} y = Where(allowed, nought, ban)"),
    "the other way": ("float", "R,S", f"{CAUSAL} n = Not(allowed) y = Where(n, ban, nought)"),
    "computed": (
        "float",
        "R,S",
        f"{CAUSAL} c = Cast <to = 1> (allowed) d = Sub(unit, c) y = Mul(d, ban)",
    ),
    "lower": ("float", "R,S", "o = Expand(unit, st) y = Trilu <upper = 0> (o)"),
    "upper": ("float", "R,S", "o = Expand(ban, st) y = Trilu(o, one)"),
    "lower, and some above": (
        "float",
        "R,S",
        "o = Expand(unit, st) y = Trilu <upper = 0> (o, two)",
    ),
    "made of nothing": (
        "bool",
        "R,S",
        "o = ConstantOfShape <value = float[1] {2.0}> (st) t2 = Trilu <upper = 0> (o) "
        "e = Equal(t2, nought) y = Not(e)",
    ),
    "squeezed": (
        "int64",
        "R",
        "u = Unsqueeze(row, first) n = Concat <axis = 0> (first, third) y = Squeeze(u, n)",
    ),
    "reshaped": (
        "int64",
        "A,R,C",
        "n = Concat <axis = 0> (second, s1, second) y = Reshape(rows, n)",
    ),
    "gathered": (
        "int64",
        "R,S",
        "e = Expand(column, st) r2 = Expand(row, st) c2 = Expand(column, st) "
        "ru = Unsqueeze(r2, minus) cu = Unsqueeze(c2, minus) i = Concat <axis = -1> (ru, cu) "
        "y = GatherND(e, i)",
    ),
    "sum of nothing": ("int64", "R,S", "z = Mul(zero, one) e = Expand(z, st) y = CumSum(e, one)"),
}
"""What is known, and how it is computed."""

UNKNOWN = {
    "a window": (
        "bool",
        "R,S",
        f"{CAUSAL} f = Sub(row, two) n = Greater(column, f) y = And(allowed, n)",
    ),
    "another input": (
        "bool",
        "R,S",
        f"{CAUSAL} f = Cast <to = 9> (x) z = Squeeze(f, first) y = And(allowed, z)",
    ),
    "broadcast": ("int64", "R", "y = Add(rows, columns)"),
    "expanded rows": ("int64", "R", "y = Expand(rows, t1)"),
    "repeated": ("int64", "R", "y = Tile(rows, third)"),
    "from the end": (
        "int64",
        "R",
        "y = Slice(rows, minus, end, first)",
    ),
    "a gap": (
        "int64",
        "R",
        "b = Add(rows, two) f = Slice(rows, first, second, first) y = Concat <axis = 0> (f, b)",
    ),
    "summed": ("int64", "R", "y = CumSum(rows, zero)"),
    "halves": (
        "bool",
        "R,S",
        "h = Constant <value_float = 0.5> () r = Cast <to = 1> (row) "
        "c = Cast <to = 1> (column) d = Add(r, h) y = Less(c, d)",
    ),
    "in sixteen bits": ("float16", "R", "y = Cast <to = 10> (rows)"),
    "one row for many": (
        "float",
        "R,S",
        f"{CAUSAL} e = Expand(ban, st) f = Expand(nought, st) "
        "r = Slice(allowed, first, second, first) y = Where(r, f, e)",
    ),
    "neither": ("float", "R,S", f"{CAUSAL} c = Cast <to = 1> (allowed) y = Mul(c, c)"),
}


def _model(kind: str, rank: str, body: str) -> ir.Model:
    return parse(HEAD.format(kind=kind, rank=rank, body=body))


def _written(known: Places, shape: tuple[int, ...]) -> Array:
    assert known is not None
    line = known.line if isinstance(known, Border) else known
    assert len(line.steps) == len(shape)
    grid = np.indices(shape)
    numbers = line.start + sum(step * index for step, index in zip(line.steps, grid, strict=True))
    if isinstance(known, Border):
        numbers = np.where(numbers >= 0, known.inside, known.outside)
    return np.broadcast_to(numbers, shape)


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_known_is_what_is_computed(name: str) -> None:
    model = _model(*KNOWN[name])
    known = Positions(Sizes.of(model.graph)).of(model.graph.outputs[0])
    for shape in ((1, 3, 4), (2, 4, 3), (1, 1, 5), (3, 5, 1), (1, 1, 1)):
        (computed,) = run(model, {"x": np.zeros(shape, np.float32)})
        np.testing.assert_array_equal(_written(known, computed.shape), computed)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known(name: str) -> None:
    model = _model(*UNKNOWN[name])
    assert Positions(Sizes.of(model.graph)).of(model.graph.outputs[0]) is None


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.arange(5), Line(0, (1,))),
        (np.arange(3, 9, 2)[None, :, None], Line(3, (0, 2, 0))),
        (np.full((2, 3), 7.0), Line(7, (0, 0))),
        (np.tril(np.ones((4, 4))), Border(Line(0, (1, -1)), 1, 0)),
        (np.tril(np.ones((1, 2, 5)), 2).astype(bool), Border(Line(2, (0, 1, -1)), 1, 0)),
        (np.triu(np.full((3, 3), -np.inf), 1), Border(Line(0, (1, -1)), 0, -np.inf)),
        (np.array([0, 1, 3]), None),
        (np.eye(3), None),
        (np.triu(np.ones((3, 3))), None),
        (np.array([[1, 0], [1, 0]]), Line(1, (0, -1))),
        (np.array([[1, 1, 0], [1, 1, 0], [1, 1, 1]]), None),
        (np.array([np.nan, np.nan]), None),
    ],
)
def test_tables(array: Array, expected: Places) -> None:
    value = ir.Value(name="t", const_value=ir.Tensor(array))
    graph = ir.Graph([], [], nodes=[], initializers=[value], opset_imports={"": 24})
    assert Positions(Sizes.of(graph)).of(value) == expected
