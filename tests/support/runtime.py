"""ONNX Runtime as the judge of quantized arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from infopt.quant.affine import Parameters
from infopt.quant.granularity import PerAxis, PerBlock
from infopt.quant.packing import PackedWeight
from infopt.quant.spec import QuantSpec


def quantized(
    array: np.ndarray, params: Parameters, spec: QuantSpec
) -> tuple[np.ndarray, np.ndarray]:
    """What QuantizeLinear makes of ``array``, as float32, and DequantizeLinear of that."""
    attributes: dict[str, Any] = {}
    if isinstance(spec.granularity, PerAxis | PerBlock):
        attributes["axis"] = spec.granularity.axis
    if isinstance(spec.granularity, PerBlock):
        attributes["block_size"] = spec.granularity.block
    x = ir.val("x", ir.DataType.FLOAT, array.shape)
    scale, zero = _constant("scale", params.scale), _constant("zero", params.zero_point)
    quantize = ir.node("QuantizeLinear", [x, scale, zero], attributes)
    codes = quantize.outputs[0]
    cast = ir.node("Cast", [codes], {"to": ir.DataType.FLOAT.value})
    back = ir.node("DequantizeLinear", [codes, scale, zero], attributes)
    first, second = _run([x], [scale, zero], [quantize, cast, back], [cast, back], [array])
    return first, second


def matmul_nbits(
    x: np.ndarray, weight: PackedWeight, shape: tuple[int, int], bits: int, block: int
) -> np.ndarray:
    """What MatMulNBits makes of ``x`` (rows, in) and a weight of ``shape`` (out, in)."""
    fed = ir.val("x", ir.DataType.FLOAT, x.shape)
    constants = [
        _constant("b", weight.b),
        _constant("scales", weight.scales),
        _constant("zero_points", weight.zero_points),
    ]
    attributes = {"N": shape[0], "K": shape[1], "bits": bits, "block_size": block}
    node = ir.node("MatMulNBits", [fed, *constants], attributes, domain="com.microsoft")
    return _run([fed], constants, [node], [node], [x])[0]


def _constant(name: str, array: np.ndarray) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    return ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )


def _run(
    inputs: list[ir.Value],
    constants: list[ir.Value],
    nodes: list[ir.Node],
    last: list[ir.Node],
    arrays: list[np.ndarray],
) -> list[np.ndarray]:
    for index, node in enumerate(last):
        node.outputs[0].name, node.outputs[0].dtype = f"y{index}", ir.DataType.FLOAT
    graph = ir.Graph(
        inputs,
        [node.outputs[0] for node in last],
        nodes=nodes,
        initializers=constants,
        opset_imports={"": 21, "com.microsoft": 1},
        name="graph",
    )
    proto = ir.to_proto(ir.Model(graph, ir_version=10))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {value.name: array for value, array in zip(inputs, arrays, strict=True)}
    return [np.asarray(found) for found in session.run(None, feeds)]
