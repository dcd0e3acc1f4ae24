"""A small network of scattered layers, whose names tell the layer in one of three ways."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 8


def layered(
    layers: int = 4,
    *,
    names: str = "nodes",
    odd: tuple[int, ...] = (),
    opset: int = 20,
) -> onnx.ModelProto:
    """``layers`` of a scattered LayerNorm and an erf Gelu, and a LayerNorm at the end.

    Args:
        layers: How many.
        names: ``nodes``: their names hold the path of the module; ``scopes``: their metadata
            does, as torch's exporter writes it; ``weights``: only the weights' names do.
        odd: Layers whose Gelu has another factor than a half.
        opset: Of the standard domain; up to 19 it is converted at import.
    """
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    tensors: dict[str, np.ndarray] = {
        "axes": np.array([-1], np.int64),
        "two": np.array(2, np.float32),
        "epsilon": np.array(1e-5, np.float32),
        "root": np.array(2**0.5, np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
        "odd": np.array(0.7, np.float32),
    }

    def op(module: str, kind: str, *inputs: str) -> str:
        number = len(nodes)
        name = f"/{module.replace('.', '/', 1)}/{kind}" if names == "nodes" else f"node_{number}"
        node = helper.make_node(kind, inputs, [f"v{number}"], f"{name}_{number}")
        if names == "scopes":
            scopes = ["", "encoder", module, f"operator_{number}"]
            node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(scopes))
        nodes.append(node)
        return str(node.output[0])

    def weight(name: str, *shape: int) -> str:
        tensors[name] = rng.standard_normal(shape).astype(np.float32)
        return name

    def norm(module: str, x: str) -> str:
        d = op(module, "Sub", x, op(module, "ReduceMean", x, "axes"))
        variance = op(module, "ReduceMean", op(module, "Pow", d, "two"), "axes")
        n = op(module, "Div", d, op(module, "Sqrt", op(module, "Add", variance, "epsilon")))
        n = op(module, "Mul", n, weight(f"{module}.weight", WIDTH))
        return op(module, "Add", n, weight(f"{module}.bias", WIDTH))

    def gelu(module: str, x: str, factor: str) -> str:
        gate = op(module, "Add", op(module, "Erf", op(module, "Div", x, "root")), "one")
        return op(module, "Mul", op(module, "Mul", x, gate), factor)

    x = "x"
    for layer in range(layers):
        path = f"encoder.layer.{layer}"
        y = norm(f"{path}.norm", x)
        y = op(f"{path}.up", "MatMul", y, weight(f"{path}.up.weight", WIDTH, WIDTH))
        y = gelu(f"{path}.act", y, "odd" if layer in odd else "half")
        y = op(f"{path}.down", "MatMul", y, weight(f"{path}.down.weight", WIDTH, WIDTH))
        x = op(f"{path}.residual", "Add", x, y)
    x = norm("encoder.norm", x)
    ends = [
        helper.make_tensor_value_info(end, TensorProto.FLOAT, ["batch", WIDTH]) for end in ("x", x)
    ]
    graph = helper.make_graph(
        nodes,
        "layered",
        ends[:1],
        ends[1:],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
