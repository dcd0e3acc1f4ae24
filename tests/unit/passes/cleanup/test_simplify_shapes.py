"""What simplify-shapes believes, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest

from infopt.ir import queries
from infopt.passes.cleanup.simplify_shapes import SimplifyShapes
from tests.support.models import Array, assert_same, parse, run

COPIED_BY_NAME = """g (float[N,8] x, int64[N] ids) => (float[N,2,4] y)
<int64[2] heads = {2, 4}> {
    n = Shape(ids)
    target = Concat<axis = 0>(n, heads)
    y = Reshape(x, target)
}"""


def test_where_a_believed_name_is_false_the_original_fails() -> None:
    model = parse(COPIED_BY_NAME)
    assert SimplifyShapes().call(model.clone()).modified
    false: dict[str, Array] = {"x": np.zeros((3, 8), np.float32), "ids": np.zeros(2, np.int64)}
    with pytest.raises(Exception, match="cannot be reshaped"):
        run(model, false)


@pytest.mark.parametrize(("rows", "names"), [(1, 3), (3, 1), (2, 2)])
def test_a_false_name_still_broadcasts(rows: int, names: int) -> None:
    model = parse("""g (float[N,4] x, float[N,1] w) => (float[a,b] y)
    <int64[1] four = {4}> {
        n = Shape<start = 0, end = 1>(w)
        s = Concat<axis = 0>(n, four)
        e = Expand(x, s)
        y = Add(e, w)
    }""")
    after = model.clone()
    SimplifyShapes().call(after)
    feeds = {"x": np.ones((rows, 4), np.float32), "w": np.ones((names, 1), np.float32)}
    assert_same(run(model, feeds), run(after, feeds))


@pytest.mark.parametrize("sizes", [(2, 3), (0, 3), (2, 0), (0, 0)])
def test_axes_may_be_empty(sizes: tuple[int, int]) -> None:
    model = parse("""g (float[N,M,12] x) => (float[a,b,c,d] y, float[e,f] z)
    <int64[2] heads = {3, 4}, int64[1] minus = {-1}, int64[1] d = {12}> {
        n = Shape<start = 0, end = 1>(x)
        m = Shape<start = 1, end = 2>(x)
        t1 = Concat<axis = 0>(n, m, heads)
        y = Reshape(x, t1)
        nm = Mul(n, m)
        t2 = Concat<axis = 0>(nm, d)
        z = Reshape<allowzero = 1>(x, t2)
    }""")
    after = model.clone()
    SimplifyShapes().call(after)
    assert not queries.count_operators(after).keys() & {"Shape", "Concat", "Mul"}
    feeds = {"x": np.ones((*sizes, 12), np.float32)}
    assert_same(run(model, feeds), run(after, feeds))


def test_sizes_reach_into_branches() -> None:
    model = parse("""g (bool c, float[N,6] x) => (float[N,a,b] y) {
        n = Shape<start = 0, end = 1>(x)
        y = If (c) <
            then_branch = t () => (float[N,2,3] p) <int64[2] k = {2, 3}> {
                s = Concat<axis = 0>(n, k)
                p = Reshape(x, s)
            },
            else_branch = e () => (float[N,3,2] q) <int64[2] l = {3, 2}> {
                u = Concat<axis = 0>(n, l)
                q = Reshape(x, u)
            }
        >
    }""")
    SimplifyShapes().call(model)
    assert queries.count_operators(model) == {"If": 1, "Reshape": 2}
