import onnx_ir as ir
import pytest

from infopt.importers import import_model
from infopt.ir.layers import Layers, layer_in
from tests.support.layered import layered


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("/model/layers.0/self_attn/MatMul", "model.layers.0"),
        ("encoder.layer.11.attention/node_matmul_3/Attention", "encoder.layer.11"),
        ("/encoder/layer.0/norm/Div_6", "encoder.layer.0"),
        ("bert/encoder/layer_7/output/add", "bert.encoder.layer.7"),
        ("layers.0.blocks.1.mlp.weight", "layers.0"),
        ("/model/norm/Mul_1", ""),
        ("node_mul_86", ""),
        ("onnx::MatMul_343", ""),
        ("features.3", ""),  # the third node of that name, as likely as a layer
        ("", ""),
    ],
)
def test_the_layer_in_a_name(name: str, layer: str) -> None:
    assert layer_in(name) == layer


@pytest.mark.parametrize("opset", [18, 24])  # the one is converted at import, the other is not
@pytest.mark.parametrize("names", ["nodes", "scopes", "weights"])
def test_names_of_nodes_modules_or_weights_tell(names: str, opset: int) -> None:
    model = import_model(layered(2, names=names, opset=opset)).model
    layers = Layers(model)
    found = [layers.of(node.name or "") for node in model.graph if node.op_type == "Erf"]
    assert found == ["layer.0", "layer.1"]
    last = model.graph.outputs[0].producer()
    assert last is not None
    assert layers.of(last.name or "") == ""


def test_a_new_node_is_where_its_anchor_was() -> None:
    layers = Layers(import_model(layered(2, names="weights")).model)
    assert layers.of("node_14_14/Gelu") == "layer.0"
    assert layers.of("node_14_14/Gelu/Cast") == "layer.0"
    assert layers.of("out of the blue") == ""


def test_different_stacks_keep_what_tells_them_apart() -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[2] x) => (float[2] y) '
    text += '{ ["/m/encoder/block.0/a"] v = Relu(x) ["/m/decoder/block.0/a"] y = Relu(v) }'
    layers = Layers(ir.from_onnx_text(text))
    assert layers.of("/m/encoder/block.0/a") == "encoder.block.0"
    assert layers.of("/m/decoder/block.0/a") == "decoder.block.0"


def test_a_weight_that_several_nodes_read_tells_nothing() -> None:
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[1] x) => (float[1] y) '
    text += "<float[1] w = {1}> { v = Mul(x, w) y = Mul(v, w) }"
    model = ir.from_onnx_text(text)
    model.graph.initializers["w"].name = "m.layer.0.weight"
    for node in model.graph:
        node.name = f"node_{node.outputs[0].name}"
    layers = Layers(model)
    assert [layers.of("node_v"), layers.of("node_y")] == ["", ""]


def test_between_two_weights_the_later_one_tells() -> None:
    # As where a projection without a name of its own follows the layer before it.
    text = '<ir_version: 10, opset_import: ["" : 20]> g (float[1] x) => (float[1] y) '
    text += "<float[1] a = {1}, float[1] b = {1}> { v = Mul(x, a) w = Neg(v) y = Add(w, b) }"
    model = ir.from_onnx_text(text)
    for number, name in enumerate("ab"):
        model.graph.initializers[name].name = f"m.layer.{number}.bias"
    for node in model.graph:
        node.name = node.op_type
    layers = Layers(model)
    assert [layers.of(node.op_type) for node in model.graph] == ["layer.0", "layer.1", "layer.1"]
