"""What a source is, told from its content and never from its name.

Reads a bounded number of bytes, runs nothing, and imports no framework.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zipfile
from pathlib import Path
from typing import BinaryIO, Literal

from infopt.errors import SourceError

ACCEPTED = (
    "infopt takes an ONNX file, a .pt2 file of torch.export.save, a Hugging Face directory or "
    "hub id, and in Python also a torch.nn.Module or ExportedProgram"
)
ENGINE_MANIFEST = "manifest.json"
HEAD = 4096
MAX_JSON = 16 << 20
MAX_FIELDS = 10_000


Kind = Literal[
    "onnx",  # a binary ONNX file
    "onnx-text",  # a file in ONNX's text form
    "onnx-proto",  # an onnx.ModelProto
    "ir",  # an onnx_ir.Model
    "torch",  # a torch.nn.Module
    "exported-program",  # a torch.export.ExportedProgram
    "pt2",  # a file of torch.export.save
    "huggingface",  # a directory of save_pretrained, or a hub id
    "engine",  # a directory that infopt wrote
]


# Whoever made such an object has imported its module already.
_CLASSES: tuple[tuple[str, str, Kind], ...] = (
    ("onnx_ir", "Model", "ir"),
    ("onnx", "ModelProto", "onnx-proto"),
    ("torch.nn", "Module", "torch"),
    ("torch.export", "ExportedProgram", "exported-program"),
)


def sniff(source: object) -> Kind:
    """The kind of ``source``: a path, a hub id, or an object.

    Raises:
        SourceError: There is nothing there, or nothing that infopt can use; the message says
            what was found and what to do.
    """
    if isinstance(source, str | os.PathLike):
        return _sniff_path(source)
    for module, name, kind in _CLASSES:
        cls = getattr(sys.modules.get(module), name, None)
        if cls is not None and isinstance(source, cls):
            return kind
    raise SourceError(f"a {type(source).__name__} is no model; {ACCEPTED}")


def _sniff_path(source: str | os.PathLike[str]) -> Kind:
    path = Path(source)
    try:
        if path.is_dir():
            return _sniff_directory(path)
        if path.is_file():
            return _sniff_file(path)
        exists = path.exists()
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    if exists:
        raise SourceError(f"{path} is neither a file nor a directory; {ACCEPTED}")
    if isinstance(source, str) and is_hub_id(source):
        return "huggingface"
    raise SourceError(f"there is no file or directory {path}; {ACCEPTED}")


def is_hub_id(text: str) -> bool:
    """Whether ``text`` has the form ``organization/name`` and does not look like a file."""
    part = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
    return re.fullmatch(f"{part}/{part}", text) is not None and not text.endswith(
        (".onnx", ".pt2", ".pt", ".pth", ".bin", ".safetensors", ".gguf", ".txt")
    )


# Directories --------------------------------------------------------------------------------


def _sniff_directory(path: Path) -> Kind:
    names = sorted(entry.name for entry in path.iterdir())
    if not names:
        raise SourceError(f"the directory {path} is empty; {ACCEPTED}")
    if ENGINE_MANIFEST in names:
        manifest = read_json(path / ENGINE_MANIFEST)
        if str(manifest.get("format", "")).startswith("infopt"):
            return "engine"
    if "config.json" in names:
        config = read_json(path / "config.json")
        if "model_type" in config or "architectures" in config:
            return "huggingface"
        raise SourceError(
            f"{path / 'config.json'} names neither model_type nor architectures, so it is no "
            "Hugging Face model; give the directory that save_pretrained wrote"
        )
    if "modules.json" in names:  # sentence-transformers; its encoder may lie one level below
        return "huggingface"
    models = [name for name in names if name.endswith(".onnx")]
    if models:
        raise SourceError(f"{path} is a directory; give the model in it: {path / models[0]}")
    found = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
    raise SourceError(f"no model was found in the directory {path} (it holds {found}); {ACCEPTED}")


def read_json(path: Path) -> dict[str, object]:
    """A JSON object from a file of bounded size.

    Raises:
        SourceError: It is missing, too large, or holds no JSON object.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON + 1)
        if len(data) > MAX_JSON:
            raise SourceError(f"{path} is larger than {MAX_JSON >> 20} MiB; that is no such file")
        value = json.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise SourceError(f"{path} is not JSON: {reason}; download it again") from None
    if not isinstance(value, dict):
        raise SourceError(f"{path} holds no JSON object; download it again")
    return value


# Files --------------------------------------------------------------------------------------

_TRUST = "loading it can run any code; in Python, load it yourself if you trust it, and"
_MODULE = "give infopt the torch.nn.Module, or the file that torch.export.save writes"
_REFUSED: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GGUF", "a GGUF file, whose weights were quantized already; give the original model"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras); export the model to ONNX with tf2onnx"),
    (0, b"\x93NUMPY", "a NumPy array; it is data and no model"),
    (0, b"ftrt", "a TensorRT plan, which is compiled already; give the original model"),
    (0, b"ptrt", "a TensorRT plan, which is compiled already; give the original model"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it first"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself; run git lfs pull"),
    (4, b"ORTM", "in ONNX Runtime's own format, compiled already; give the original ONNX file"),
    (4, b"TFL3", "a TensorFlow Lite file; export the original model to ONNX with tf2onnx"),
)


def _sniff_file(path: Path) -> Kind:
    with path.open("rb") as file:
        head = file.read(HEAD)
        size = file.seek(0, os.SEEK_END)
        if not head:
            raise SourceError(f"{path} is empty; download or export it again")
        for offset, magic, what in _REFUSED:
            if head[offset:].startswith(magic):
                raise SourceError(f"{path} is {what}")
        if head.startswith(b"PK\x03\x04"):
            return _sniff_zip(path)
        if re.match(rb"\x80[\x02-\x05]", head):
            raise SourceError(f"{path} is a Python pickle; {_TRUST} {_MODULE}")
        if _is_safetensors(head, size):
            raise SourceError(
                f"{path} is a safetensors file, weights without a model; "
                "give the directory with its config.json"
            )
        if _is_onnx_text(head):
            return "onnx-text"
        if _is_onnx(file, size):
            return "onnx"
    if re.match(rb"\s*(<!doctype|<html)", head, re.IGNORECASE):
        raise SourceError(f"{path} is a web page, as from a failed download; download it again")
    raise SourceError(f"{path} is no model that infopt knows; {ACCEPTED}")


def _sniff_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if not any(info.header_offset == 0 for info in archive.infolist()):
                # Its directory is lost, and that of an archive inside it was found instead.
                raise zipfile.BadZipFile("its directory is missing")
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError) as error:
        raise SourceError(
            f"{path} is a truncated or damaged zip archive ({error}); download or save it again"
        ) from None
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner:
        return "pt2"
    if "serialized_exported_program.json" in names:
        raise SourceError(
            f"{path} was written by torch.export.save before torch 2.8 and holds pickles; "
            "load it with that torch and save it with a newer one"
        )
    if any(name.startswith("code/") for name in inner):
        raise SourceError(f"{path} is TorchScript, which cannot be exported; {_MODULE}")
    if "data.pkl" in inner:
        raise SourceError(f"{path} is a pickle of torch.save; {_TRUST} {_MODULE}")
    if any(name.endswith(".npy") for name in names):
        raise SourceError(f"{path} is an archive of NumPy arrays; it is data and no model")
    raise SourceError(f"{path} is a zip archive without a model; {ACCEPTED}")


def _is_safetensors(head: bytes, size: int) -> bool:
    return head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") <= size - 8


def _is_onnx_text(head: bytes) -> bool:
    return re.match(rb"(\s|#[^\n]*\n|//[^\n]*\n)*<[^>]{0,500}ir_version\s*:", head) is not None


# The fields of ModelProto and their wire types (0 a number, 2 bytes).
_GRAPH = 7
_MODEL_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, _GRAPH: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}


def _is_onnx(file: BinaryIO, size: int) -> bool:
    """Whether the fields at the top are those of a ModelProto and a graph is among them.

    A graph that ends behind the end of the file counts: it was a model once, and whoever reads
    it will say that it is truncated.
    """
    at = 0
    for _ in range(MAX_FIELDS):
        if at >= size:
            return False
        file.seek(at)
        data = file.read(20)
        key, used = _varint(data, 0)
        field, wire = key >> 3, key & 7
        if _MODEL_FIELDS.get(field) != wire:
            return False
        if field == _GRAPH:
            return True
        value, used = _varint(data, used)
        at += used + (value if wire else 0)
    return False


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """The number at ``at`` and where it ends; 0 where there is none."""
    value = 0
    for shift, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    return 0, len(data) + 1
