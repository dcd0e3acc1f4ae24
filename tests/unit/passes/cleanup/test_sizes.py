"""Sizes are equal only if they come from the same place."""

from __future__ import annotations

import pytest

from infopt.passes.sizes import Sizes
from infopt.passes.sizes.known import Dim, Entry, minus, plus
from infopt.passes.sizes.shape_rules import broadcast
from tests.support.models import parse

X = parse("g (float[N,M] x) => (float[N,M] y) { y = Relu(x) }").graph.inputs[0]
A, B = Dim(X, 0), Dim(X, 1)


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        ([], []),
        ([[2, 1], [3]], [2, 3]),
        ([[A, 1], [B]], [A, B]),
        ([[A], [A]], [A]),
        ([[A], [B]], [None]),
        ([[A], [1]], [A]),
        ([[A], [5]], [5]),
        ([[A], [0]], [0]),
        ([[None], [1]], [None]),
        ([[A, B], []], [A, B]),
    ],
)
def test_broadcast(shapes: list[list[object]], expected: list[object]) -> None:
    assert broadcast(shapes) == expected  # type: ignore[arg-type]


def test_a_name_is_not_a_size() -> None:
    model = parse("g (float[N] x, float[N] w) => (float[N] y) { y = Add(x, w) }")
    sizes = Sizes()
    for node in model.graph:
        sizes.visit(node)
    x, w = model.graph.inputs
    (size,) = sizes.shape(model.graph.outputs[0]) or ()
    assert size not in (Dim(x, 0), Dim(w, 0))


def test_sizes_travel() -> None:
    model = parse(
        """g (float[N,M,8] x) => (int64[k] y)
    <int64[1] axis = {1}, int64[3] target = {0, 0, -1}>
    {
        a = Relu(x)
        b = Transpose<perm = [1, 0, 2]>(a)
        c = Unsqueeze(b, axis)
        d = Squeeze(c, axis)
        e = Reshape(d, target)
        f = MatMul(e, e)
        y = Shape(e)
    }""".replace("f = MatMul(e, e)\n", "")
    )
    sizes = Sizes()
    for node in model.graph:
        sizes.visit(node)
    x = model.graph.inputs[0]
    content = sizes.content(model.graph.outputs[0])
    assert content is not None
    assert content.entries == (Dim(x, 1), Dim(x, 0), 8)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (plus(A, B), plus(B, A)),
        (plus(plus(A, B), 0), plus(A, B)),
        (plus(plus(A, 2), 3), plus(5, A)),
        (plus(A, -1), None),
        (plus(A, None), None),
        (minus(plus(A, B), A), B),
        (minus(plus(A, A), A), A),
        (minus(plus(A, 5), plus(A, 2)), 3),
        (minus(A, B), None),
        (minus(A, 1), None),
        (minus(A, A), 0),
    ],
)
def test_sums(entry: Entry, expected: Entry) -> None:
    assert entry == expected


def test_sums_travel() -> None:
    model = parse(
        """g (float[N,P,4] past, float[N,S,4] x) => (float[N,T,4] y, int64[k] r)
        <int64 zero = {0}, int64 one = {1}, int64[1] first = {0}>
        {
            whole = Concat <axis = 1> (past, x)
            a = Shape <start = 1, end = 2> (past)
            b = Shape <start = 1, end = 2> (x)
            total = Add(b, a)
            limit = Squeeze(total, first)
            start = Squeeze(a, first)
            r = Range(start, limit, one)
            tail = Constant <value_ints = [4]> ()
            head = Shape <end = 1> (past)
            target = Concat <axis = 0> (head, total, tail)
            y = Reshape(whole, target)
        }"""
    )
    sizes = Sizes.of(model.graph)
    past, x = model.graph.inputs
    y, r = model.graph.outputs
    whole = next(iter(model.graph)).outputs[0]
    assert sizes.shape(y) == sizes.shape(whole) == (Dim(past, 0), plus(Dim(past, 1), Dim(x, 1)), 4)
    assert sizes.shape(r) == (Dim(x, 1),)


def test_sums_agree_by_name_where_names_are_believed() -> None:
    model = parse(
        """g (float[N,P] a, float[N,S] b, float[N,P] c, float[N,S] d, float[N,R] e)
        => (float[N,T] x, float[N,U] y, float[N,V] z)
        {
            x = Concat <axis = 1> (a, b)
            y = Concat <axis = 1> (d, c)
            z = Concat <axis = 1> (e, b)
        }"""
    )
    sizes = Sizes.of(model.graph)
    x, y, z = model.graph.outputs
    assert (sizes.shape(x) or ())[1] != (sizes.shape(y) or ())[1]
    assert sizes.agree(x, 1, y, 1)
    assert not sizes.agree(x, 1, z, 1)
