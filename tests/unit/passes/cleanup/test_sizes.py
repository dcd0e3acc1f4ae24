"""Sizes are equal only if they come from the same place."""

from __future__ import annotations

import pytest

from infopt.passes.sizes import Sizes
from infopt.passes.sizes.known import Dim
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
