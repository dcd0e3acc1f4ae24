from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from infopt.ir.cost import Cost, cost

_LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"


def _cost(body: str, sizes: dict[str, int] | None = None) -> Cost:
    return cost(
        ir.from_onnx_text(f'<ir_version: 11, opset_import: ["" : 24, "f" : 1]> {body}'), sizes
    )


@pytest.mark.parametrize(
    ("name", "gmacs"),
    [("resnet50", 4.09), ("vgg19", 19.63), ("densenet121", 2.83)],
)
def test_published_figures(name: str, gmacs: float) -> None:
    model = ir.load(_LIGHT / f"light_{name}.onnx")
    found = cost(model)
    assert found.macs / 1e9 == pytest.approx(gmacs, abs=0.01)
    assert not found.uncounted


def test_parameters_are_weights_and_not_shapes() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 11, opset_import: ["" : 24]> g (float[b,8] x) => (float[n,m] y)'
        " <float epsilon = {1.5}, int64[2] shape = {-1, 2}> {"
        " t = MatMul(x, w) u = Add(t, epsilon) y = Reshape(u, shape) }"
    )
    weight = ir.Value(name="w", const_value=ir.tensor(np.ones((8, 4), np.float32), name="w"))
    model.graph.register_initializer(weight)
    model.graph.node(0).replace_input_with(1, weight)
    found = cost(model)
    assert found.parameters == 32
    assert found.weight_bytes == 32 * 4 + 4 + 2 * 8
    assert {row.operator: row.parameters for row in found.operators} == {
        "MatMul": 32,
        "Add": 0,
        "Reshape": 0,
    }


def test_a_weight_that_two_nodes_read_counts_once() -> None:
    found = _cost("""g (float[2,3] x) => (float[2,3] y) <float[3] w = {1, 2, 3}> {
        t = Mul(x, w)
        y = Mul(t, w) }""")
    assert found.parameters == 3
    assert found.weight_bytes == 12


def test_sizes_that_are_given_and_sizes_that_are_stated() -> None:
    body = "g (float[batch,s,4] x, float[4,4] w) => (float[batch,s,4] y) { y = MatMul(x, w) }"
    assert _cost(body).sizes == {"batch": 1, "s": 128}
    found = _cost(body, {"batch": 2, "s": 10})
    assert found.sizes == {"batch": 2, "s": 10}
    assert found.macs == 2 * 10 * 4 * 4


def test_a_dimension_without_a_name_goes_by_its_place() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 11, opset_import: ["" : 24]> g (float[a,b] x) => (float[c,d] y)'
        " { y = Relu(x) }"
    )
    model.graph.inputs[0].shape = ir.Shape([None, None])
    found = cost(model, {"x[1]": 7})
    assert found.sizes == {"x[0]": 1, "x[1]": 7}
    assert found.flops == 7
    assert model.graph.inputs[0].shape == ir.Shape([None, None])  # the model is as it was


def test_peak_memory_frees_what_is_no_longer_read() -> None:
    # a and b are alive together with the input (3 × 400 bytes); c never meets a.
    found = _cost("""g (float[100] x) => (float[100] c) {
        a = Relu(x)
        b = Add(a, x)
        c = Neg(b) }""")
    assert found.activation_bytes == 3 * 400


def test_a_call_of_a_function_counts_as_its_body() -> None:
    found = _cost("""g (float[2,3] x) => (float[2,3] y) { t = f.twice(x) y = f.twice(t) }
        <domain: "f", opset_import: ["" : 24]> twice (a) => (b) { b = Add(a, a) }""")
    assert found.flops == 12
    assert [(row.operator, row.nodes) for row in found.operators] == [("Add", 2)]


def test_the_body_of_a_loop_counts_for_each_trip() -> None:
    found = _cost("""g (float[2] x) => (float[2] y) <int64 trips = {5}, bool go = {1}> {
        y = Loop(trips, go, x) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] w) {
            d = Identity(c)
            w = Add(v, v) }> }""")
    assert found.flops == 5 * 2


def test_what_is_not_counted_is_said() -> None:
    found = _cost("""g (float[2] x) => (float[2] y) { t = f.secret(x) y = Relu(x) }""")
    assert found.uncounted == {"f::secret": 1}
    assert found.flops == 2
