"""The content digest of a model: what it computes, whatever file it lies in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from infopt.ir import queries

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_CACHE = "infopt.sha256"


def model_digest(model: ir.Model) -> str:
    """``sha256:…`` over operators, names, types, shapes of inputs and outputs, and weights.

    Independent of the file layout (embedded or external weights, order of initializers),
    of documentation strings, metadata, and of shapes that inference can derive.
    """
    digest = _Digest()
    digest.add("opsets", *_opsets(model.graph))
    _add_graph(digest, model.graph)
    for identifier in sorted(model.functions):
        function = model.functions[identifier]
        digest.add("function", *identifier, *_opsets(function))
        digest.add(*(value.name for value in function.inputs), *sorted(function.attributes))
        _add_nodes(digest, function)
        digest.add(*(value.name for value in function.outputs))
    return f"sha256:{digest.hexdigest()}"


def tensor_digest(tensor: ir.TensorProtocol) -> str:
    """SHA-256 of a tensor's type, shape and little-endian bytes; kept with the tensor."""
    known = tensor.meta.get(_CACHE)
    if known is None:
        digest = _Digest()
        digest.add(tensor.dtype.name, *tensor.shape.numpy())
        if isinstance(tensor, ir.StringTensor):
            digest.add(*tensor.string_data())
        else:
            # Streamed: a weight in a file is neither mapped nor loaded.
            tensor.tofile(digest)  # type: ignore[attr-defined]
        known = tensor.meta[_CACHE] = digest.hexdigest()
    return str(known)


def file_digest(path: Path) -> str:
    """``sha256:…`` of the bytes of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


class _Digest:
    """SHA-256 over a sequence of items; also a file-like object to write bytes to."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, *items: object) -> None:
        """Add items so that no two different sequences look alike."""
        for item in items:
            data = item if isinstance(item, bytes) else str(item).encode(errors="surrogatepass")
            self._hash.update(b"%d:" % len(data))
            self._hash.update(data)

    def write(self, data: Buffer) -> int:
        """Add raw bytes: any contiguous buffer, of any shape."""
        flat = memoryview(data).cast("B")
        self._hash.update(flat)
        return flat.nbytes

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _opsets(graph: queries.GraphLike) -> Iterable[object]:
    for domain, version in sorted(graph.opset_imports.items()):
        yield domain
        yield version


def _add_graph(digest: _Digest, graph: ir.Graph) -> None:
    for what, values in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        digest.add(what, len(values))
        for value in values:
            digest.add(value.name, value.type, value.shape)
    digest.add("initializers", len(graph.initializers))
    for name, value in sorted(graph.initializers.items()):
        digest.add(name)
        if value.const_value is not None:
            digest.add(tensor_digest(value.const_value))
    _add_nodes(digest, graph)


def _add_nodes(digest: _Digest, graph: queries.GraphLike) -> None:
    digest.add("nodes", len(graph))
    for node in graph:
        digest.add(*node.op_identifier(), len(node.inputs), len(node.outputs))
        digest.add(*("" if value is None else value.name for value in node.inputs))
        digest.add(*(value.name for value in node.outputs))
        for name, attr in sorted(node.attributes.items()):
            digest.add(name, attr.type.name, attr.ref_attr_name)
            _add_attribute(digest, attr)


def _add_attribute(digest: _Digest, attr: ir.Attr) -> None:
    if attr.is_ref():
        return
    if attr.type is ir.AttributeType.GRAPH:
        _add_graph(digest, attr.as_graph())
    elif attr.type is ir.AttributeType.GRAPHS:
        for graph in attr.as_graphs():
            _add_graph(digest, graph)
    elif attr.type is ir.AttributeType.TENSOR:
        digest.add(tensor_digest(attr.as_tensor()))
    elif attr.type is ir.AttributeType.TENSORS:
        digest.add(*(tensor_digest(tensor) for tensor in attr.as_tensors()))
    else:
        digest.add(attr.value)
