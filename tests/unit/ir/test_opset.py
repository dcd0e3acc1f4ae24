import numpy as np
import onnx_ir as ir
import pytest

from infopt.errors import OpsetError
from infopt.ir import opset


def _model(body: str, version: int) -> ir.Model:
    return ir.from_onnx_text(f'<ir_version: 8, opset_import: ["" : {version}]> {body}')


def test_a_number_is_enough_where_no_definition_changed() -> None:
    model = _model("g (float[2] x) => (float[2] y) { y = Erf (x) }", 20)
    converted = opset.convert_opset(model)
    assert converted is model
    assert model.graph.opset_imports[""] == opset.OPSET
    assert model.ir_version == opset.IR_VERSION


def test_changed_operators_are_rewritten_and_weights_kept() -> None:
    model = _model(
        "g (float[2,600] x) => (float[2,600] y) { s = Squeeze <axes = [0]> (w)\n y = Add (x, s) }",
        11,
    )
    tensor = ir.tensor(np.ones((1, 600), np.float32), name="w")
    weight = model.graph.node(0).inputs[0]
    assert weight is not None
    weight.const_value, weight.dtype, weight.shape = tensor, tensor.dtype, ir.Shape([1, 600])
    model.graph.register_initializer(weight)
    converted = opset.convert_opset(model)
    assert "axes" not in converted.graph.node(0).attributes
    assert converted.graph.initializers["w"].const_value is tensor


def test_functions_are_inlined_where_definitions_changed() -> None:
    model = ir.from_onnx_text("""
    <ir_version: 8, opset_import: ["" : 12, "local" : 1]>
    g (float[2,3] x) => (float[1,2,3] y) { y = local.f (x) }
    <domain: "local", opset_import: ["" : 12]>
    f (a) => (b) { b = Unsqueeze <axes = [0]> (a) }
    """)
    converted = opset.convert_opset(model)
    assert [node.op_type for node in converted.graph][-1] == "Unsqueeze"
    assert not converted.functions


def test_a_newer_model_comes_down_where_it_can() -> None:
    model = _model("g (float[2] x) => (float[2] y) { y = Relu (x) }", 26)
    assert opset.convert_opset(model).graph.opset_imports[""] == opset.OPSET


@pytest.mark.parametrize(
    ("body", "version", "message"),
    [
        ("g (float[2] x) => (float[2] y) { [n] y = Frobnicate (x) }", 20, "no operator 'Frobn"),
        ("g (float[2] x) => (float[2] y) { [n] y = Gelu (x) }", 17, "opset 17 has no operator"),
        ("g (float[2] x) => (float[2] y) { y = Relu (x) }", 4711, "opset 4711; known are 1 to"),
        ("g (float[2] x) => (float[2] y) { y = Swish (x) }", 24, "from opset 24 to 20"),
    ],
)
def test_the_unknown_is_named(body: str, version: int, message: str) -> None:
    with pytest.raises(OpsetError, match=message):
        opset.convert_opset(_model(body, version), 20 if "Swish" in body else opset.OPSET)


def test_operators_without_an_opset_are_refused() -> None:
    model = _model("g (float[2] x) => (float[2] y) { y = Relu (x) }", 20)
    del model.graph.opset_imports[""]
    with pytest.raises(OpsetError, match="imports no opset"):
        opset.convert_opset(model)


SCAN8 = """
<ir_version: 8, opset_import: ["" : 8]>
g (float[2,2] initial, float[2,3,2] x) => (float[2,2] y, float[2,3,2] z)
{
   [scan] y, z = Scan <num_scan_inputs = 1, body = b (float[2] sum_in, float[2] next) =>
      (float[2] sum_out, float[2] scan_out) {
         sum_out = Add (sum_in, next)
         scan_out = Identity (sum_out)
      }> (, initial, x)
}
"""


def test_scan_with_a_batch_becomes_a_scan_over_the_batch() -> None:
    import onnxruntime as ort

    x = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    inputs = {"initial": np.ones((2, 2), np.float32), "x": x}
    model = ir.from_onnx_text(SCAN8)
    session = ort.InferenceSession(ir.to_proto(opset.convert_opset(model)).SerializeToString())
    y, z = session.run(None, inputs)
    np.testing.assert_array_equal(z, 1 + x.cumsum(axis=1))
    np.testing.assert_array_equal(y, 1 + x.sum(axis=1))


def test_scan_with_sequence_lengths_is_refused() -> None:
    text = SCAN8.replace("g (", "g (int64[2] lengths, ").replace("(, initial", "(lengths, initial")
    with pytest.raises(OpsetError, match="'scan': Scan with sequence lengths"):
        opset.convert_opset(ir.from_onnx_text(text))


def test_the_opset_of_a_function_is_checked_too() -> None:
    model = ir.from_onnx_text("""
    <ir_version: 9, opset_import: ["" : 18, "local" : 1]>
    main (float[n] x) => (float[n] y) { y = local.twice (x) }
    <opset_import: ["" : 18], domain: "local">
    twice (v) => (w) { w = Add (v, v) }
    """)
    next(iter(model.functions.values())).opset_imports[""] = 2**62
    with pytest.raises(OpsetError, match=str(2**62)):
        opset.convert_opset(model)
