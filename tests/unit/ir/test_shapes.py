import onnx_ir as ir
import pytest

from infopt.errors import ShapeError
from infopt.ir import shapes


def _infer(body: str, opset: int = 24) -> ir.Model:
    model = ir.from_onnx_text(f'<ir_version: 10, opset_import: ["" : {opset}]> {body}')
    shapes.infer_shapes(model)
    return model


def test_names_of_dimensions_travel() -> None:
    model = _infer("""g (float[batch,8] x, float[8,4] w) => (float[batch,4] y) {
        t = MatMul (x, w)
        y = Relu (t) }""")
    value = model.graph.node(0).outputs[0]
    assert value.dtype is ir.DataType.FLOAT
    assert value.shape == ir.Shape(["batch", 4])


def test_large_weights_take_part_and_stay() -> None:
    import numpy as np

    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 24]> '
        "g (float[b,600] x, float[600,2] w) => (float[b,2] y) { y = MatMul (x, w) }"
    )
    weight = model.graph.inputs.pop()
    weight.const_value = tensor = ir.tensor(np.ones((600, 2), np.float32), name="w")
    model.graph.register_initializer(weight)
    shapes.infer_shapes(model)
    assert weight.const_value is tensor
    assert model.graph.outputs[0].shape == ir.Shape(["b", 2])


def test_what_cannot_be_inferred_stays_unknown() -> None:
    model = _infer("""g (float[n] x) => (int64[1,m] y) {
        t = NonZero (x)
        y = Identity (t) }""")
    shape = model.graph.node(0).outputs[0].shape
    assert shape is not None
    assert shape[0] == 1
    assert shape[1] == ir.SymbolicDim(None)


def test_subgraphs_are_inferred() -> None:
    model = _infer("""g (bool c, float[2,3] x) => (float[3,2] y) {
        y = If (c) <
          then_branch = t () => (float[3,2] a) { s = Neg (x)
                                                a = Transpose (s) },
          else_branch = e () => (float[3,2] b) { b = Transpose (x) }> }""")
    branch = model.graph.node(0).attributes["then_branch"].as_graph()
    assert branch.node(0).outputs[0].shape == ir.Shape([2, 3])


@pytest.mark.parametrize(
    ("body", "node"),
    [
        ("g (float[2,3] x, float[4,5] w) => (float[2,5] y) { [bad] y = MatMul (x, w) }", "bad"),
        ("g (float[2] x, int64[2] w) => (float[2] y) { [bad] y = Add (x, w) }", "bad"),
        ("g (float[2] x) => (float[3] y) { [bad] y = Relu (x) }", ""),
    ],
)
def test_contradictions_name_the_node(body: str, node: str) -> None:
    with pytest.raises(ShapeError, match="inconsistent") as caught:
        _infer(body)
    assert node in str(caught.value)


def test_operators_that_are_inferred_by_their_body_have_their_defaults() -> None:
    model = _infer("""g (float[1,2,3,4] x) => (float[1,2,3,4] y) {
        t = MeanVarianceNormalization (x)
        y = Relu (t) }""")
    assert model.graph.node(0).outputs[0].shape == ir.Shape([1, 2, 3, 4])
    assert not model.graph.node(0).attributes


def test_an_untyped_value_where_onnx_would_crash() -> None:
    model = ir.from_onnx_text("""
    <ir_version: 10, opset_import: ["" : 24, "my.own" : 1]>
    g (float[3,3] x) => (float[3,3] y) {
        t = my.own.Magic (x)
        y = EyeLike (t) }""")
    shapes.infer_shapes(model)  # in this process: a crash would take the test run with it
    assert model.graph.node(0).outputs[0].type is None
