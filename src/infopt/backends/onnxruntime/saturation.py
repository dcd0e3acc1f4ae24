"""Processors on which a product of uint8 and int8 saturates, and models that compute right there.

x86 without VNNI multiplies uint8 by int8 with an instruction that adds two products up in 16
bits: 255 · 127 · 2 does not fit, and the sum is cut, in silence (:mod:`infopt.quant.pairs`). Where
weights are uint8, too, ONNX Runtime takes other kernels, that add up in 32 bits. So on such a
processor a model is loaded with weights that could saturate moved to uint8: the same numbers, with
a zero point that is 128 higher. ONNX Runtime 1.31 can do so itself
(``session.x64quantprecision``), but then does not load models in which two nodes share weights or
zero points, and makes others that do not run.
"""

from __future__ import annotations

import contextlib
import functools
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from infopt.backends.onnxruntime.runtime import onnxruntime
from infopt.ir import files, queries
from infopt.passes.editing import Editor
from infopt.quant import pairs

_READS_WEIGHTS = {
    "DequantizeLinear": ((0, 2),),
    "DynamicQuantizeLSTM": ((1, 9), (2, 11)),
    "DynamicQuantizeMatMul": ((1, 3),),
    "MatMulInteger": ((1, 3),),
    "MatMulIntegerToFloat": ((1, 5),),
    "QAttention": ((1, 7),),
    "QGemm": ((3, 5),),
    "QLinearConv": ((3, 5),),
    "QLinearMatMul": ((3, 5),),
}
"""Where operators read weights, and where the zero points of these."""
_PRODUCTS = {
    "DynamicQuantizeMatMul",
    "Gemm",
    "MatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "QAttention",
    "QGemm",
    "QLinearMatMul",
}
"""Those that sum over the rows of their weights; over the columns with ``transB``."""

ADVICE = (
    "this processor's instruction for uint8 by int8 saturates; weights become uint8 when they are "
    "loaded here, in kernels that take up to 1.5 times as long. Quantized with --scheme "
    "unsaturated=true they stay int8"
)
ALONE_SAFE = 64
"""The largest magnitude of weights that are safe beside any other: 255 · 64 · 2 fits."""


@functools.cache
def saturates() -> bool:
    """Whether ONNX Runtime's products of uint8 and int8 saturate here: asked by a product."""
    return _cuts((127, 127, 127, 127))


@functools.cache
def adds_neighbours() -> bool:
    """Whether what it adds up are the pairs of :mod:`infopt.quant.pairs`, and no others."""
    return not _cuts((127, 1, 1, 127))


def _cuts(weights: tuple[int, ...]) -> bool:
    """Whether the largest activations times such weights, over and over, come out too small."""
    if platform.machine().lower() not in {"x86_64", "amd64", "x86", "i386", "i686"}:
        return False
    depth = 64
    x = ir.val("x", ir.DataType.UINT8, ["rows", depth])
    y = ir.val("y", ir.DataType.INT32, ["rows", 16])
    column = np.resize(np.array(weights, np.int8), depth)
    tensor = ir.tensor(np.ascontiguousarray(np.tile(column[:, None], 16)), name="w")
    constant = ir.Value(name="w", const_value=tensor)
    node = ir.Node("", "MatMulInteger", [x, constant], outputs=[y])
    graph = ir.Graph(
        [x], [y], nodes=[node], initializers=[constant], opset_imports={"": 17}, name="probe"
    )
    proto = ir.to_proto(ir.Model(graph, ir_version=8))
    session = onnxruntime().InferenceSession(
        proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    exact = 255 * column.astype(np.int32).sum()
    # One row has kernels of its own.
    results = (session.run(None, {"x": np.full((n, depth), 255, np.uint8)})[0] for n in (1, 4))
    return any((sums != exact).any() for sums in results)


@contextlib.contextmanager
def exact(model_file: Path, device: str) -> Iterator[Path]:
    """A file of the same model whose products are exact on this processor; often the same file.

    It is there inside the ``with`` only.

    Args:
        model_file: An ONNX file.
        device: What is to run it; all but ``"cpu"`` have other instructions.

    Raises:
        SourceError: The file is no model.
    """
    if device == "cpu" and saturates():
        model = files.read_onnx(model_file)
        if move_to_uint8(model):
            with tempfile.TemporaryDirectory(prefix="infopt-") as room:
                files.write_onnx(model, Path(room))
                yield Path(room) / files.MODEL_FILE
            return
    yield model_file


def move_to_uint8(model: ir.Model) -> int:
    """Let constant int8 weights that could saturate be uint8; returns how many nodes read such."""
    editor = Editor(model)
    moved: dict[tuple[int, ir.Value], ir.Value] = {}
    count = 0
    for node in list(queries.nodes(model)):
        if node.domain not in ("", "com.microsoft") or queries.attribute(node, "block_size", 0):
            continue  # nothing multiplies the integers of blocks as they are
        for at, zero_at in _READS_WEIGHTS.get(node.op_type, ()):
            count += _move(node, at, zero_at, editor, moved)
    return count


def _move(
    node: ir.Node,
    at: int,
    zero_at: int,
    editor: Editor,
    moved: dict[tuple[int, ir.Value], ir.Value],
) -> bool:
    weights = _integers(node, at)
    if weights is None or weights.size == 0:
        return False
    if _is_safe(node, weights):
        return False
    zero = node.inputs[zero_at] if zero_at < len(node.inputs) else None
    points = _integers(node, zero_at) if zero is not None else _zeros(node)
    if points is None:
        return False
    if zero_at >= len(node.inputs):
        node.resize_inputs(zero_at + 1)
    for index, array in ((at, weights), (zero_at, points)):
        given = node.inputs[index]
        known = None if given is None else moved.get((id(node.graph), given))
        if known is None:
            name = f"{(given and given.name) or node.name}_uint8"
            known = editor.add_constant(node, array.view(np.uint8) ^ np.uint8(128), name)
        if given is not None:
            moved[id(node.graph), given] = known
        node.replace_input_with(index, known)
    return True


def _is_safe(node: ir.Node, weights: np.ndarray) -> bool:
    """Whether no product with these weights can saturate, whatever they are multiplied by."""
    if weights.max() <= ALONE_SAFE and weights.min() >= -ALONE_SAFE:
        return True
    if node.op_type == "DequantizeLinear":
        uses = node.outputs[0].uses()
        return bool(uses) and all(use.idx == 1 and _is_safe_in(use.node, weights) for use in uses)
    return _is_safe_in(node, weights)


def _is_safe_in(node: ir.Node, weights: np.ndarray) -> bool:
    """The same, where ``node`` sums over them."""
    if node.op_type in ("Conv", "QLinearConv"):
        if weights.shape[:2] == (queries.attribute(node, "group", 1), 1):
            return True  # depthwise: ONNX Runtime multiplies these in 32 bits
        rows = pairs.as_rows(weights, 0)
    elif node.op_type in _PRODUCTS and weights.ndim >= 2:
        transposed = queries.attribute(node, "transB", 0)
        rows = weights if transposed else weights.swapaxes(-1, -2)
    else:
        return False
    return adds_neighbours() and pairs.are_safe(rows)


def _integers(node: ir.Node, index: int) -> np.ndarray | None:
    """What a node reads there, if constant and int8."""
    tensor = queries.constant_tensor(node.inputs[index]) if index < len(node.inputs) else None
    return tensor.numpy() if tensor is not None and tensor.dtype == ir.DataType.INT8 else None


def _zeros(node: ir.Node) -> np.ndarray | None:
    """Zero points that a node leaves out: of the shape of its scales, where it asks for that."""
    if node.op_type != "DequantizeLinear":
        return np.zeros((), np.int8)
    shape = queries.static_shape(node.inputs[1])
    return None if shape is None else np.zeros(shape, np.int8)
