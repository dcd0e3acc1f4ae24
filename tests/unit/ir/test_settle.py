import onnx_ir as ir

from infopt.ir import queries
from infopt.ir.settle import settle_shapes
from infopt.ir.shapes import infer_shapes


def _settled(body: str) -> ir.Model:
    model = ir.from_onnx_text(f'<ir_version: 11, opset_import: ["" : 24]> {body}')
    infer_shapes(model)
    settle_shapes(model)
    return model


def _unknown(model: ir.Model) -> list[str]:
    return [
        value.name or "?"
        for node in queries.nodes(model)
        for value in node.outputs
        if queries.static_shape(value) is None
    ]


def test_a_reshape_whose_shape_is_computed() -> None:
    model = _settled("""g (float[2,6,4] x) => (float[a,b,c,d] y)
        <int64 first = {0}, int64 second = {1}, int64[2] heads = {2, -1}, int64[1] zero = {0}> {
        s = Shape(x)
        n = Gather(s, first)
        m = Gather(s, second)
        n1 = Unsqueeze(n, zero)
        m1 = Unsqueeze(m, zero)
        t = Concat<axis = 0>(n1, m1, heads)
        y = Reshape(x, t)
    }""")
    assert model.graph.outputs[0].shape == ir.Shape([2, 6, 2, 2])
    assert not _unknown(model)


def test_arithmetic_on_scalars_and_floats() -> None:
    model = _settled("""g (float[1,1,10] x) => (int64[n] r, float[a,b,c] z)
        <int64 two = {2}, int64 zero = {0}, int64 one = {1}, int64 axis = {2},
         float[1] half = {0.5}, int64[1] tail = {2}, int64[1] head = {0}, int64[1] end = {2}> {
        s = Shape(x)
        n = Gather(s, axis)
        h = Div(n, two)
        r = Range(zero, h, one)
        f = Cast<to = 1>(s)
        g = Mul(f, half)
        i = Cast<to = 7>(g)
        k = Slice(i, tail, end)
        l = Slice(s, head, tail)
        m = Concat<axis = 0>(l, k)
        z = Expand(x, s)
    }""")
    assert queries.static_shape(model.graph.outputs[0]) == (5,)
    assert queries.static_shape(model.graph.outputs[1]) == (1, 1, 10)


def test_the_branch_that_runs_decides() -> None:
    model = _settled("""g (float[1,3] x) => (float[n,m] y) <int64 one = {1}, int64 zero = {0}> {
        s = Shape(x)
        d = Gather(s, zero)
        c = Equal(d, one)
        y = If(c) <
            then_branch = g1 () => (float[a,b] p) { p = Identity(x) },
            else_branch = g2 () => (float[e,f] q) { q = Concat<axis = 0>(x, x) }>
    }""")
    assert queries.static_shape(model.graph.outputs[0]) == (1, 3)


def test_a_size_that_depends_on_data_stays_unknown() -> None:
    model = _settled("""g (float[4] x) => (int64[1,n] y) { y = NonZero(x) }""")
    assert _unknown(model) == ["y"]
