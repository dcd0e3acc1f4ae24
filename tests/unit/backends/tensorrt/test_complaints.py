import onnx_ir as ir
import pytest

from infopt.backends.tensorrt.complaints import describe
from infopt.ir.layers import Layers


def _layers(*names: str) -> Layers:
    x = ir.val("x", ir.DataType.FLOAT, [2])
    nodes = [ir.node("Relu", [x], name=name) for name in names]
    graph = ir.Graph([x], [], nodes=nodes, opset_imports={"": 24}, name="g")
    return Layers(ir.Model(graph, ir_version=11))


def _complaint(node: str, operator: str, text: str, code: str = "") -> dict[str, str]:
    return {"code": code, "node": node, "operator": operator, "text": text}


def test_every_node_with_its_layer_and_what_to_do() -> None:
    names = ("/encoder/layer.0/det", "/encoder/layer.1/det", "/head/q")
    said = describe(
        [
            _complaint(names[0], "Det", "false", "UNSUPPORTED_NODE"),
            _complaint(names[1], "Det", "false", "UNSUPPORTED_NODE"),
            _complaint(names[2], "QuantizeLinear", "shiftIsAllZeros(zeroPoint): Non-zero"),
            _complaint("other", "Conv", "kernel\n  of rank 7"),
        ],
        _layers(*names, "other"),
    )
    lines = said.splitlines()
    assert lines[0] == "TensorRT does not take 4 nodes of the model:"
    assert "Det at '/encoder/layer.0/det' (layer layer.0), '/encoder/layer.1/det' " in lines[1]
    assert "no such operator; write it with others" in lines[1]
    assert "QuantizeLinear at '/head/q': " in lines[2]
    assert "symmetric quantization only" in lines[2]
    assert lines[3].strip() == "Conv at 'other': kernel of rank 7"


@pytest.mark.parametrize(
    ("text", "code", "expected"),
    [
        ('creator && "Plugin not found, is the name correct?"', "INVALID_NODE", "no such operator"),
        ('convertDtype(t) && "Unsupported data type!"', "INVALID_NODE", "no such type; convert to"),
        ('rank < 8 && "Too many axes!"', "INVALID_NODE", ": Too many axes!"),
        ("Assertion failed: a::b(c): It is odd.", "INVALID_NODE", ": It is odd."),
        ("", "UNSUPPORTED_NODE_SHAPE", ": unsupported node shape"),
    ],
)
def test_what_the_parser_says(text: str, code: str, expected: str) -> None:
    said = describe([_complaint("n", "Op", text, code)], _layers("n"))
    assert said.startswith("TensorRT does not take 1 node of the model:\n  Op at 'n': ")
    assert expected in said


def test_a_complaint_about_no_node() -> None:
    text = 'Assertion failed: convertDtype(t) && "Failed to convert ONNX date type"'
    said = describe([_complaint("", "", text, "UNSUPPORTED_NODE")], _layers("n"))
    assert said.splitlines()[1].startswith("  TensorRT has no such type")


def test_many_places_are_counted_and_the_same_one_once() -> None:
    names = [f"n{i}" for i in range(8)]
    said = describe([_complaint(n, "Det", "plugin") for n in [*names, "n0"]], _layers(*names))
    assert said.startswith("TensorRT does not take 8 nodes")
    assert "'n4' and 3 more: " in said
