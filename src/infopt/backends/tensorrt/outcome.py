"""Which types an engine really computes in, beside those that its model asks for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

import onnx_ir as ir

from infopt.backends.base import Outcome
from infopt.backends.tensorrt.layers import Layer
from infopt.ir import queries

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_MOVING = ("Reshape", "Transpose", "Squeeze", "Unsqueeze")
_QUANTIZED = {
    "int8": "integers",
    "float8e4m3fn": "8-bit floats",
    "int4": "weights of 4 bits",
}
_HALVES = {"float16": "float16", "bfloat16": "bfloat16"}
_ON_4_BITS = re.compile(r"int4|i4|w4", re.IGNORECASE)


def asked(model: ir.Model) -> dict[str, str]:
    """Product or convolution → the type that ``model`` asks it to compute in.

    That of its weights where they are quantized, else that of what it multiplies them by.
    """
    found = {}
    for node in queries.nodes(model):
        if queries.is_standard(node, *_PRODUCTS):
            dtype = _quantized(node.inputs[1])
            if dtype is None and node.inputs[0] is not None:
                dtype = node.inputs[0].dtype
            if dtype is not None:
                found[node.name or ""] = dtype.name.lower()
    return found


def _quantized(value: ir.Value | None) -> ir.DataType | None:
    """The type in which a value is stored before it is scaled back."""
    producer = None if value is None else value.producer()
    while producer is not None and queries.is_standard(producer, *_MOVING):
        source = producer.inputs[0]
        producer = None if source is None else source.producer()
    if producer is None or not queries.is_standard(producer, "DequantizeLinear"):
        return None
    stored = producer.inputs[0]
    return None if stored is None else stored.dtype


def compare(wanted: Mapping[str, str], layers: Sequence[Layer]) -> Outcome:
    """What became of the products of a model.

    Args:
        wanted: What :func:`asked` says.
        layers: Of the engine that was built of it.
    """
    lowered = {n: t for n, t in wanted.items() if t in _QUANTIZED}
    lowered = lowered or {n: t for n, t in wanted.items() if t in _HALVES}
    words = {**_QUANTIZED, **_HALVES}
    kept, missed, unknown = 0, [], []
    for name, dtype in lowered.items():
        verdict = _happened(dtype, [layer for layer in layers if name in layer.nodes])
        if verdict is None:
            unknown.append(name)
        elif verdict:
            kept += 1
        else:
            missed.append(name)
    notes = []
    if unknown:
        notes.append(
            f"TensorRT does not tell the types of {len(unknown)} of {len(lowered)} products: "
            f"{', '.join(unknown)}"
        )
    return Outcome(
        kernels=dict(Counter(map(_kernel, layers)).most_common()),
        integer=kept,
        floating=tuple(missed),
        on=" and ".join(dict.fromkeys(words[t] for t in lowered.values())) or "integers",
        layers=tuple(layer.as_dict() for layer in layers),
        regions=sum(len(layer.nodes) > 1 and not layer.reformats for layer in layers),
        reformats=sum(layer.reformats for layer in layers),
        notes=tuple(notes),
    )


def _happened(dtype: str, layers: Sequence[Layer]) -> bool | None:
    """Whether a product that went into ``layers`` reads ``dtype``; ``None`` where nobody says."""
    telling = [layer for layer in layers if not layer.reformats and layer.reads]
    if any(dtype in layer.reads for layer in telling):
        return True
    if dtype == "int4":  # weights are part of the kernel, and not always told
        return True if any(_ON_4_BITS.search(layer.tactic) for layer in layers) else None
    return False if telling else None


def _kernel(layer: Layer) -> str:
    types = layer.reads or layer.writes
    return f"{layer.kind or 'unknown'} {types[0]}" if types else layer.kind or "unknown"
