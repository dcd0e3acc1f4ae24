"""Models with random weights, some inputs of which matter more than others."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from infopt.ir.shapes import infer_shapes
from tests.support.models import feeds, run

K = 64
SQUARE = (K, K)


def build(body: str, shapes: Mapping[str, tuple[int, ...]], *, results: int = 1) -> ir.Model:
    """A model on ``float[16,64] x`` with random weights, and results of the same shape."""
    ends = ", ".join(f"float[16,{K}] y{number or ''}" for number in range(results))
    proto = onnx.parser.parse_model(
        f'<ir_version: 11, opset_import: ["" : 24]> g (float[16,{K}] x) => ({ends}) {{ {body} }}'
    )
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        array = rng.normal(0, 0.2, shape) * np.exp(rng.normal(0, 1, shape[-1]))
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def noise(model: ir.Model, other: ir.Model) -> float:
    """Mean squared difference of all outputs, relative to their mean square."""
    inputs = feeds(model, 3)
    right, found = (
        [array.astype(np.float64) for array in run(each, inputs)] for each in (model, other)
    )
    pairs = list(zip(right, found, strict=True))
    return float(sum(((a - b) ** 2).sum() for a, b in pairs) / sum((a**2).sum() for a, _ in pairs))
