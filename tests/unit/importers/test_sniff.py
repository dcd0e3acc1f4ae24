from __future__ import annotations

import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infopt.errors import SourceError
from infopt.importers.sniff import is_hub_id, sniff

TEXT = '<ir_version: 11, opset_import: ["" : 24]> g (float[2] x) => (float[2] y) { y = Relu(x) }'
PROTO = onnx.parser.parse_model(TEXT)


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.canary,))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/").replace("_DOT_", "."), data)
    return buffer.getvalue()


def test_tells_onnx_by_content_not_by_name(tmp_path: Path) -> None:
    binary = write(tmp_path / "model.json", PROTO.SerializeToString())
    text = write(tmp_path / "model.onnx", f"# a comment\n\n{TEXT}".encode())
    assert sniff(binary) == "onnx"
    assert sniff(str(binary)) == "onnx"
    assert sniff(text) == "onnx-text"


def test_tells_onnx_with_large_fields_before_the_graph(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(PROTO)
    model.producer_name = "p" * 100_000
    assert sniff(write(tmp_path / "m", model.SerializeToString())) == "onnx"


def test_a_truncated_onnx_file_is_still_an_onnx_file(tmp_path: Path) -> None:
    data = PROTO.SerializeToString()
    assert sniff(write(tmp_path / "m", data[:-5])) == "onnx"


def test_tells_objects() -> None:
    import torch

    module = torch.nn.Linear(2, 2)
    assert sniff(PROTO) == "onnx-proto"
    assert sniff(ir.from_proto(PROTO)) == "ir"
    assert sniff(module) == "torch"
    assert sniff(torch.export.export(module, (torch.ones(2, 2),))) == "exported-program"
    with pytest.raises(SourceError, match=r"a dict is no model; infopt takes"):
        sniff({})


def test_does_not_import_torch() -> None:
    code = """
import sys
from infopt.importers.sniff import sniff
try:
    sniff(object())
except Exception as error:
    print(type(error).__name__, "torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "SourceError False", result.stderr


SAFETENSORS = struct.pack("<Q", 2) + b"{}"
REFUSED = {
    "nothing": (b"", "is empty; download"),
    "gguf": (b"GGUF\x03\0\0\0", "GGUF file, whose weights were quantized"),
    "hdf5": (b"\x89HDF\r\n\x1a\n....", "HDF5"),
    "npy": (b"\x93NUMPY\x01\0", "data and no model"),
    "npz": (zipped(x_DOT_npy=b""), "data and no model"),
    "plan": (b"ftrt\0\0\0\0", "TensorRT plan"),
    "ort": (b"\x18\0\0\0ORTM", "compiled already"),
    "tflite": (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
    "gzip": (b"\x1f\x8b\x08\0", "unpack it"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "html": (b"\n<!DOCTYPE html><html>", "web page"),
    "json": (b'{"a": 1}', "no model that infopt knows"),
    "safetensors": (SAFETENSORS, "give the directory with its config.json"),
    "torchscript": (zipped(m__data_DOT_pkl=b"", m__code__x_DOT_py=b""), "TorchScript"),
    "old pt2": (zipped(serialized_exported_program_DOT_json=b"{}"), "before torch 2.8"),
    "other zip": (zipped(readme=b""), "zip archive without a model"),
    "damaged zip": (zipped(readme=b"")[:20], "damaged zip"),
    "zeros": (bytes(100), "no model that infopt knows"),
    "a graph field of the wrong type": (b"\x08\x0b\x38\x01", "no model that infopt knows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_a_reason(name: str, tmp_path: Path) -> None:
    data, message = REFUSED[name]
    path = write(tmp_path / "model.onnx", data)
    with pytest.raises(SourceError, match=message) as caught:
        sniff(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_refuses_pickles_without_loading_them(protocol: int, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    data = pickle.dumps(Payload(canary), protocol)
    with pytest.raises(SourceError, match=r"is a Python pickle; .* torch\.export\.save"):
        sniff(write(tmp_path / "model.pth", data))
    with pytest.raises(SourceError, match=r"pickle of torch\.save; .* torch\.export\.save"):
        sniff(write(tmp_path / "model.pt", zipped(archive__data_DOT_pkl=data)))
    assert not canary.exists()
    pickle.loads(data)
    assert canary.exists()  # the payload is a live one


def test_refuses_what_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="there is no file or directory"):
        sniff(tmp_path / "missing.onnx")
    with pytest.raises(SourceError, match=r"no file or directory models/missing\.onnx"):
        sniff("models/missing.onnx")
    with pytest.raises(SourceError, match="there is no file or directory"):
        sniff("a\0b")
    with pytest.raises(SourceError, match="cannot be read"):
        sniff("x" * 5000)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="neither a file nor a directory"):
        sniff(tmp_path / "pipe")


def test_tells_hub_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sniff("sentence-transformers/all-MiniLM-L6-v2") == "huggingface"
    assert not is_hub_id("./model")
    assert not is_hub_id("a/b/c")
    assert not is_hub_id("../b")
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "b", PROTO.SerializeToString())
    assert sniff("a/b") == "onnx"  # what exists goes first
    with pytest.raises(SourceError):
        sniff(Path("org/name"))  # a Path is meant as a path


def test_tells_directories(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is empty"):
        sniff(tmp_path)
    write(tmp_path / "notes", b"")
    with pytest.raises(SourceError, match=r"no model was found .*\(it holds notes\)"):
        sniff(tmp_path)
    write(tmp_path / "m.onnx", PROTO.SerializeToString())
    with pytest.raises(SourceError, match=r"give the model in it: .*m\.onnx"):
        sniff(tmp_path)
    write(tmp_path / "config.json", json.dumps({"model_type": "bert"}).encode())
    assert sniff(tmp_path) == "huggingface"
    write(tmp_path / "manifest.json", json.dumps({"format": "infopt-engine"}).encode())
    assert sniff(tmp_path) == "engine"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not JSON"),
        (b"[]", "no JSON object"),
        (b'{"model_type": "b', "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"{}", "names neither model_type nor architectures"),
    ],
)
def test_refuses_damaged_configurations(data: bytes, message: str, tmp_path: Path) -> None:
    write(tmp_path / "config.json", data)
    with pytest.raises(SourceError, match=message):
        sniff(tmp_path)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda data, at, byte: data[:at] + bytes([byte]) + data[at + 1 :],
            st.sampled_from([PROTO.SerializeToString(), zipped(m__data_DOT_pkl=b"x"), SAFETENSORS]),
            st.integers(0, 60),
            st.integers(0, 255),
        ),
    )
)
def test_never_fails_otherwise(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = write(tmp_path_factory.getbasetemp() / "fuzzed", data)
    try:
        kind = sniff(path)
    except SourceError:
        return
    assert kind in ("onnx", "onnx-text", "pt2")


def test_numpy_arrays_are_no_models() -> None:
    with pytest.raises(SourceError, match="a ndarray is no model"):
        sniff(np.ones(3))
