"""A network of equal layers, one of which may be a little off."""

from __future__ import annotations

import numpy as np
import onnx

LAYERS = 6


def network(broken: int | None = None, factor: float = 1.01, *, width: int = 8) -> onnx.ModelProto:
    """Six layers of MatMul, Add and Relu; one whose weights are a little larger."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for number in range(LAYERS):
        w = rng.standard_normal((width, width)).astype(np.float32) / np.float32(width**0.5)
        b = rng.standard_normal(width).astype(np.float32)
        weights += [
            onnx.numpy_helper.from_array(
                w * np.float32(factor if number == broken else 1), f"w{number}"
            ),
            onnx.numpy_helper.from_array(b, f"b{number}"),
        ]
        end = "y" if number == LAYERS - 1 else f"r{number}"
        layer = f"net/layer.{number}"
        nodes += [
            onnx.helper.make_node(
                "MatMul", [value, f"w{number}"], [f"m{number}"], f"{layer}/dense"
            ),
            onnx.helper.make_node(
                "Add", [f"m{number}", f"b{number}"], [f"a{number}"], f"{layer}/bias"
            ),
            onnx.helper.make_node("Relu", [f"a{number}"], [end], f"{layer}/act"),
        ]
        value = end
    graph = onnx.helper.make_graph(
        nodes,
        "network",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", width])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", width])],
        weights,
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, ir_version=8, opset_imports=opset)
