"""Reads an ONNX protobuf without its weights, so that these can be memory-mapped in place.

protobuf has no lazy fields: parsing a model copies every weight in it. This module walks the
wire format (https://protobuf.dev/programming-guides/encoding/) down to the tensors, and
replaces each large payload by a reference to where it lies in the same file. The result is a
small, ordinary protobuf for onnx to parse.
"""

from __future__ import annotations

import mmap
from typing import TypeAlias

from infopt.errors import SourceError

Buffer = bytes | mmap.mmap

LARGE = 1024
"""Payloads of at least so many bytes are referred to instead of copied."""

_MAX_DEPTH = 100  # protobuf's own limit on nested messages

# The way from a model to its tensors: message → field number → message (onnx.proto3).
_Message: TypeAlias = dict[int, "_Message"]
_TENSOR: _Message = {}
_SPARSE: _Message = {1: _TENSOR, 2: _TENSOR}
_GRAPH: _Message = {5: _TENSOR, 15: _SPARSE}
_ATTRIBUTE: _Message = {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH}
_NODE: _Message = {5: _ATTRIBUTE}
_GRAPH[1] = _NODE
_FUNCTION: _Message = {7: _NODE}
_MODEL: _Message = {7: _GRAPH, 25: _FUNCTION}

# Fields of TensorProto.
_DATA_TYPE, _FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA, _EXTERNAL, _LOCATION = 2, 4, 9, 10, 13, 14
# Packed fields whose bytes are the tensor's own, by element type (FLOAT, DOUBLE).
_SAME_BYTES = {1: _FLOAT_DATA, 11: _DOUBLE_DATA}

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def without_payloads(buffer: Buffer, location: str) -> bytes:
    """The model in ``buffer`` with large tensor payloads replaced by external references.

    Args:
        buffer: A serialized ``ModelProto``.
        location: The ``location`` to write into the references; offsets and lengths are those
            of the payload in ``buffer``.

    Returns:
        A serialized ``ModelProto``.

    Raises:
        SourceError: The bytes are not a protobuf, or end too early.
    """
    parts = _Walk(buffer, location.encode()).message(0, len(buffer), _MODEL, 0)
    return b"".join(parts)


class _Walk:
    def __init__(self, buffer: Buffer, location: bytes) -> None:
        self._buffer = buffer
        self._location = location

    def message(self, at: int, end: int, kind: _Message, depth: int) -> list[bytes]:
        """The bytes of one message, in pieces, with its tensors replaced."""
        if depth > _MAX_DEPTH:
            raise SourceError(f"more than {_MAX_DEPTH} nested messages")
        if kind is _TENSOR:
            return self._tensor(at, end)
        parts: list[bytes] = []
        copied = at
        while at < end:
            start = at
            field, wire, at, stop = self._field(at, end)
            child = kind.get(field)
            if child is not None and wire == _BYTES and stop - at >= LARGE:
                inner = self.message(at, stop, child, depth + 1)
                parts += (
                    self._buffer[copied:start],
                    _varint(field << 3 | _BYTES),
                    _varint(sum(map(len, inner))),
                )
                parts += inner
                copied = stop
            at = stop
        parts.append(self._buffer[copied:end])
        return parts

    def _tensor(self, at: int, end: int) -> list[bytes]:
        """One TensorProto; its payload is replaced if it is a single large field."""
        start = at
        data_type = 0
        payloads: list[tuple[int, int, int, int]] = []  # field, where it starts, data, its end
        while at < end:
            begin = at
            field, wire, at, stop = self._field(at, end)
            if field == _DATA_TYPE and wire == _VARINT:
                data_type, _ = self._read_varint(at, end)
            elif wire == _BYTES and field in (_FLOAT_DATA, _RAW_DATA, _DOUBLE_DATA, _EXTERNAL):
                payloads.append((field, begin, at, stop))
            at = stop
        if len(payloads) != 1:
            return [self._buffer[start:end]]
        field, begin, at, stop = payloads[0]
        if stop - at < LARGE or field not in (_RAW_DATA, _SAME_BYTES.get(data_type)):
            return [self._buffer[start:end]]
        # Last, since of a field that is there twice the last counts: the tensor may say that its
        # data is not external, as those of onnx's own loader do.
        return [
            self._buffer[start:begin],
            self._buffer[stop:end],
            self._reference(offset=at, length=stop - at),
        ]

    def _reference(self, offset: int, length: int) -> bytes:
        entries = ((b"location", self._location), (b"offset", offset), (b"length", length))
        reference = b"".join(
            _bytes_field(_EXTERNAL, _bytes_field(1, key) + _bytes_field(2, _text(value)))
            for key, value in entries
        )
        return reference + _varint(_LOCATION << 3 | _VARINT) + _varint(1)

    def _field(self, at: int, end: int) -> tuple[int, int, int, int]:
        """Field number, wire type, and where its value starts and ends."""
        key, at = self._read_varint(at, end)
        field, wire = key >> 3, key & 7
        if wire == _BYTES:
            length, at = self._read_varint(at, end)
            stop = at + length
        elif wire == _VARINT:
            _, stop = self._read_varint(at, end)
        elif wire == _FIXED64:
            stop = at + 8
        elif wire == _FIXED32:
            stop = at + 4
        else:
            raise SourceError("its bytes are not a protobuf")
        if field == 0 or stop > end:
            raise SourceError("it is truncated or not a protobuf")
        return field, wire, at, stop

    def _read_varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 64:
            byte = self._buffer[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
            shift += 7
        raise SourceError("it is truncated or not a protobuf")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes_field(field: int, data: bytes) -> bytes:
    return _varint(field << 3 | _BYTES) + _varint(len(data)) + data


def _text(value: bytes | int) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
