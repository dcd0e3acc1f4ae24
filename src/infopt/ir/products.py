"""In which types a model holds the weights of its products."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from infopt.ir import queries

_PRODUCTS = frozenset(
    [
        "Attention",
        "Conv",
        "ConvInteger",
        "ConvTranspose",
        "DynamicQuantizeMatMul",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "GRU",
        "Gemm",
        "LSTM",
        "MatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
        "RNN",
    ]
)
_THROUGH = frozenset(("Cast", "DequantizeLinear", "Identity", "Reshape", "Transpose"))


def products(model: ir.Model) -> Mapping[str, tuple[str, ...]]:
    """Element type of the weights, in lower case → names of the products that read such weights.

    Quantized weights count as what they are stored in, also where they are dequantized in front of
    the product, as Q/DQ models have it; packed blocks of 4 bits are ``int4``. Products of two
    values that are computed have no weights and are left out.
    """
    found: dict[str, list[str]] = {}
    for node in queries.nodes(model):
        if node.op_type in _PRODUCTS:
            kind = _type_of_weights(node)
            if kind:
                found.setdefault(kind, []).append(node.name or node.op_type)
    return {kind: tuple(found[kind]) for kind in sorted(found)}


def _type_of_weights(node: ir.Node) -> str:
    for value in node.inputs:
        tensor = _stored(value)
        if tensor is None or len(tensor.shape) < 2:
            continue
        if node.op_type == "MatMulNBits":
            return f"int{queries.attribute(node, 'bits', 4)}"
        return tensor.dtype.name.lower()
    return ""


def _stored(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The constant that ``value`` is made of by moving and dequantizing alone."""
    while value is not None:
        tensor = queries.constant_tensor(value)
        if tensor is not None:
            return tensor
        producer = value.producer()
        if producer is None or producer.op_type not in _THROUGH:
            return None
        value = producer.inputs[0]
    return None
