import onnx_ir as ir

from infopt.backends.tensorrt.complaints import describe
from infopt.ir.layers import Layers


def _layers(*names: str) -> Layers:
    x = ir.val("x", ir.DataType.FLOAT, [2])
    nodes = [ir.node("Relu", [x], name=name) for name in names]
    graph = ir.Graph([x], [], nodes=nodes, opset_imports={"": 24}, name="g")
    return Layers(ir.Model(graph, ir_version=11))


def _complaint(node: str, operator: str, text: str) -> dict[str, str]:
    return {"code": "UNSUPPORTED_NODE", "node": node, "operator": operator, "text": text}


def test_every_node_with_its_layer_and_what_to_do() -> None:
    names = ("/encoder/layer.0/det", "/encoder/layer.1/det", "/head/q")
    said = describe(
        [
            _complaint(names[0], "Det", "No importer registered for op: Det"),
            _complaint(names[1], "Det", "No importer registered for op: Det"),
            _complaint(names[2], "QuantizeLinear", "only symmetric: non-zero zero point"),
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


def test_many_places_are_counted_and_the_same_one_once() -> None:
    names = [f"n{i}" for i in range(8)]
    said = describe([_complaint(n, "Det", "plugin") for n in [*names, "n0"]], _layers(*names))
    assert said.startswith("TensorRT does not take 8 nodes")
    assert "'n4' and 3 more: " in said
