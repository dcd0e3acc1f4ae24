"""What onnx's schemas say of the types of a node's inputs and outputs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import onnx
import onnx.defs
import onnx_ir as ir

from infopt.ir import queries

HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


@dataclasses.dataclass(frozen=True)
class Signature:
    """The type of each input and output of a node: a variable of its schema, or one type."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    variables: Mapping[str, frozenset[str]]
    """The types that each variable stands for, as onnx writes them: ``tensor(float)``."""

    def allows(self, word: str, dtype: ir.DataType) -> bool:
        """Whether what the schema calls ``word`` may be a tensor of ``dtype``."""
        wanted = f"tensor({dtype.name.lower()})"
        return wanted in self.variables.get(word, (word,))


def signature(node: ir.Node, version: int) -> Signature | None:
    """The types of ``node`` at a version of its domain; ``None`` if it has no schema there."""
    found = _schema(node.op_type, node.domain, version)
    if found is None:
        return None
    inputs, outputs, variables = found
    return Signature(
        _spread(inputs, len(node.inputs)), _spread(outputs, len(node.outputs)), variables
    )


def allows_halves(model: ir.Model) -> bool:
    """Whether every 16-bit floating-point value of ``model`` is one that its opset knows there."""
    return all(allowed for root in queries.roots(model) for allowed in _halves(root, model))


def _halves(root: queries.GraphLike, model: ir.Model) -> Iterator[bool]:
    for node in root.all_nodes():
        version = root.opset_imports.get(node.domain) or model.opset_imports.get(node.domain, 1)
        found = signature(node, version)
        if found is None:
            continue
        for words, values in ((found.inputs, node.inputs), (found.outputs, node.outputs)):
            for word, value in zip(words, values, strict=True):
                if value is not None and value.dtype in HALVES and is_tensor(value):
                    yield found.allows(word, value.dtype)


def is_tensor(value: ir.Value) -> bool:
    """Whether ``value`` is known to be a dense tensor."""
    return isinstance(value.type, ir.TensorType)


@functools.cache
def _schema(
    op_type: str, domain: str, version: int
) -> tuple[tuple[str, ...], tuple[str, ...], Mapping[str, frozenset[str]]] | None:
    try:
        found = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return None
    return (
        tuple(formal.type_str for formal in found.inputs),
        tuple(formal.type_str for formal in found.outputs),
        {c.type_param_str: frozenset(c.allowed_type_strs) for c in found.type_constraints},
    )


def _spread(formal: Sequence[str], count: int) -> tuple[str, ...]:
    """The word for each of ``count`` values; the last formal one may stand for several."""
    return tuple(formal[min(index, len(formal) - 1)] if formal else "" for index in range(count))
