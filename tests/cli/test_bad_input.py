"""Bad input ends in one clear error, exit code 2 or 3, and nothing half-written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper

from tests.cli.support import Run, document, perceptron


@dataclasses.dataclass(frozen=True)
class Case:
    """One kind of bad input."""

    name: str
    make: Callable[[Path], Path]
    """Makes the source in an empty directory."""
    arguments: tuple[str, ...]
    code: int
    kind: str
    """The error's class."""
    says: tuple[str, ...]
    """What the message holds: the culprit, and what to do."""


def _good(room: Path) -> Path:
    path = room / "good.onnx"
    onnx.save(perceptron(), path)
    return path


def _missing(room: Path) -> Path:
    return room / "missing.onnx"


def _empty(room: Path) -> Path:
    path = room / "empty.onnx"
    path.write_bytes(b"")
    return path


def _truncated(room: Path) -> Path:
    path = room / "truncated.onnx"
    path.write_bytes(perceptron().SerializeToString()[:-100])
    return path


def _no_model(room: Path) -> Path:
    path = room / "notes.onnx"
    path.write_text("Buy milk.\n" * 100)
    return path


def _pickle(room: Path) -> Path:
    path = room / "weights.onnx"
    path.write_bytes(b"\x80\x04\x95" + bytes(100))
    return path


def _external(
    location: str, *, write: int | None = None, link: bool = False
) -> Callable[[Path], Path]:
    """A model whose first weight lies in another file."""

    def make(room: Path) -> Path:
        proto = perceptron()
        for tensor in proto.graph.initializer[:1]:
            external_data_helper.set_external_data(tensor, location, offset=0, length=512)
            tensor.ClearField("raw_data")
        directory = room / "model"
        directory.mkdir()
        path = directory / "external.onnx"
        path.write_bytes(proto.SerializeToString())
        (room / "outside.bin").write_bytes(bytes(512))
        if write is not None:
            (directory / location).write_bytes(bytes(write))
        if link:
            (directory / location).symlink_to(room / "outside.bin")
        return path

    return make


def _graph(text: str, name: str) -> Callable[[Path], Path]:
    def make(room: Path) -> Path:
        path = room / name
        onnx.save(onnx.parser.parse_model(text), path)
        return path

    return make


def _opset(version: int) -> Callable[[Path], Path]:
    def make(room: Path) -> Path:
        path = room / "future.onnx"
        onnx.save(perceptron(opset=version), path)
        return path

    return make


def _undefined(room: Path) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["nowhere"], ["y"], "lonely")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    path = room / "undefined.onnx"
    opsets = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    )
    return path


def _with_data(name: str, array: np.ndarray) -> Callable[[Path], Path]:
    def make(room: Path) -> Path:
        np.savez(room / "data.npz", allow_pickle=False, **{name: array})
        return _good(room)

    return make


def _occupied(room: Path) -> Path:
    (room / "out").mkdir()
    (room / "out" / "thesis.txt").write_text("three years of work")
    return _good(room)


def _file_in_the_way(room: Path) -> Path:
    (room / "out").write_text("a file")
    return _good(room)


HEAD = '<ir_version: 8, opset_import: ["" : 17]> '

CASES = [
    Case("missing", _missing, (), 3, "SourceError", ("missing.onnx", "takes an ONNX file")),
    Case("empty", _empty, (), 3, "SourceError", ("empty.onnx", "export it again")),
    Case("truncated", _truncated, (), 3, "SourceError", ("truncated.onnx", "again")),
    Case("no model", _no_model, (), 3, "SourceError", ("notes.onnx", "takes an ONNX file")),
    Case("pickle", _pickle, (), 3, "SourceError", ("weights.onnx", "torch.nn.Module")),
    Case(
        "external data missing",
        _external("weights.bin"),
        (),
        3,
        "ExternalDataError",
        ("'w1'", "weights.bin", "put it beside the model"),
    ),
    Case(
        "external data too short",
        _external("weights.bin", write=100),
        (),
        3,
        "ExternalDataError",
        ("'w1'", "only 100", "download it again"),
    ),
    Case(
        "external data above the directory",
        _external("../outside.bin"),
        (),
        3,
        "ExternalDataError",
        ("../outside.bin", "leaves the model's directory"),
    ),
    Case(
        "external data far above",
        _external("../../../../../etc/passwd"),
        (),
        3,
        "ExternalDataError",
        ("etc/passwd", "leaves the model's directory"),
    ),
    Case(
        "external data at an absolute path",
        _external("/etc/passwd"),
        (),
        3,
        "ExternalDataError",
        ("/etc/passwd", "leaves the model's directory"),
    ),
    Case(
        "external data behind a link",
        _external("weights.bin", link=True),
        (),
        3,
        "ExternalDataError",
        ("weights.bin", "leaves the model's directory"),
    ),
    Case(
        "unknown operator",
        _graph(HEAD + "g (float[n] x) => (float[n] y) { [wiggle] y = Wiggle(x) }", "odd.onnx"),
        (),
        3,
        "OpsetError",
        ("odd.onnx", "'wiggle'", "no operator 'Wiggle'"),
    ),
    Case("unknown opset", _opset(99), (), 3, "OpsetError", ("future.onnx", "opset 99")),
    Case(
        "ill-typed graph",
        _graph(
            HEAD + "g (float[2,3] a, float[4,5] b) => (float[2,5] y) { [bad] y = MatMul(a, b) }",
            "ill.onnx",
        ),
        (),
        3,
        "ShapeError",
        ("ill.onnx", "'bad'", "MatMul"),
    ),
    Case("undefined value", _undefined, (), 3, "", ("undefined.onnx", "'lonely'")),
    Case(
        "shape of an unknown input",
        _good,
        ("--shape", "y=1x8"),
        2,
        "UsageError",
        ("'y'", "it has: x, batch"),
    ),
    Case(
        "shape of another rank",
        _good,
        ("--shape", "x=1x8x8"),
        2,
        "UsageError",
        ("'x'", "rank 2"),
    ),
    Case(
        "shape that contradicts",
        _good,
        ("--shape", "x=1x9"),
        2,
        "UsageError",
        ("'x'", "fixed at 8"),
    ),
    Case("shape that is none", _good, ("--shape", "x=wide"), 2, "UsageError", ("name=1x128",)),
    Case(
        "unknown pass",
        _good,
        ("--pipeline", "fold-constant"),
        2,
        "PipelineError",
        ("did you mean 'fold-constants'?",),
    ),
    Case(
        "unknown option",
        _good,
        ("--pipeline", "fold-constants{limits=3}"),
        2,
        "PipelineError",
        ("did you mean 'limit'?",),
    ),
    Case(
        "option of another type",
        _good,
        ("--pipeline", "fold-constants{limit=many}"),
        2,
        "PipelineError",
        ("'many'", "int"),
    ),
    Case(
        "unbalanced pipeline",
        _good,
        ("--pipeline", "repeat(fold-constants"),
        2,
        "PipelineError",
        ("repeat(fold-constants",),
    ),
    Case(
        "unknown target",
        _good,
        ("--target", "onnxruntime:cud"),
        2,
        "TargetError",
        ("did you mean 'onnxruntime:cuda'?",),
    ),
    Case("unknown precision", _good, ("--precision", "fp23"), 2, "UsageError", ("fp32",)),
    Case(
        "data of another name",
        _with_data("X", np.ones((1, 8), np.float32)),
        ("--data", "{room}/data.npz"),
        2,
        "DataError",
        ("data.npz", "'X'", "x"),
    ),
    Case(
        "data of another type",
        _with_data("x", np.ones((1, 8), np.int64)),
        ("--data", "{room}/data.npz"),
        2,
        "DataError",
        ("data.npz", "int64", ".astype('float32')"),
    ),
    Case(
        "data of another shape",
        _with_data("x", np.ones((1, 9), np.float32)),
        ("--data", "{room}/data.npz"),
        2,
        "DataError",
        ("data.npz", "[1, 9]"),
    ),
    Case(
        "no data there",
        _good,
        ("--data", "{room}/nothing.npz"),
        2,
        "DataError",
        ("nothing.npz", "give an .npz file"),
    ),
    Case("output holds something", _occupied, (), 2, "OutputError", ("out", "-o", "remove it")),
    Case("output is a file", _file_in_the_way, (), 2, "OutputError", ("out", "-o")),
    Case("tolerance", _good, ("--tolerance", "nan"), 2, "UsageError", ("nan",)),
]


def _snapshot(directory: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(infopt: Run, tmp_path: Path, case: Case) -> None:
    source = case.make(tmp_path)
    arguments = [argument.replace("{room}", str(tmp_path)) for argument in case.arguments]
    before = _snapshot(tmp_path)
    call = ("optimize", source, "-o", tmp_path / "out", *arguments, "--no-bench")

    result = infopt(*call)
    assert result.exit_code == case.code, result.stderr
    message = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    for part in case.says:
        assert part in message
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert _snapshot(tmp_path) == before

    again = infopt(*call, "--json")
    assert again.exit_code == case.code
    error = document(again)["error"]
    assert error["type"] == case.kind or not case.kind
    assert f"error: {error['message']}" == message


@pytest.mark.parametrize("command", ["inspect", "bench", "compare"])
@pytest.mark.parametrize("make", [_missing, _truncated, _no_model], ids=lambda make: make.__name__)
def test_other_commands_refuse_it_alike(
    infopt: Run, tmp_path: Path, command: str, make: Callable[[Path], Path]
) -> None:
    source = make(tmp_path)
    result = infopt(command, source, *([source] if command == "compare" else []))
    assert result.exit_code == 3
    assert source.name in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["inspect", "bench", "compare"])
def test_a_damaged_engine(infopt: Run, engine: Path, command: str) -> None:
    with (engine / "model.onnx").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    result = infopt(command, engine, *([engine] if command == "compare" else []))
    assert result.exit_code == 3
    assert "model.onnx is not the file that was built; build it again" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_engine_is_optimized_already(infopt: Run, engine: Path, tmp_path: Path) -> None:
    result = infopt("optimize", engine, "-o", tmp_path / "again")
    assert result.exit_code in (2, 3)
    assert engine.name in result.stderr
    assert "Traceback" not in result.stderr
