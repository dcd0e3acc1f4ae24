from __future__ import annotations

import io
import json
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from infopt.errors import DataError, ImportFailed, SourceError, UsageError
from infopt.importers import ImportOptions, import_model
from infopt.importers.pt2 import load_program
from tests.support.exports import assert_same, inputs, outputs

Records = dict[str, bytes]


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3)
        self.linear = torch.nn.Linear(8, 5)
        self.constant = torch.arange(5.0)
        self.register_buffer("scale", torch.full((5,), 2.0))

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        z: torch.Tensor = self.conv(x)
        z = torch.cat([z, z.flip(2)], 2)
        scale = self.get_buffer("scale")
        scores = self.linear(z.mean((2, 3))) * scale + self.constant
        return {"scores": scores, "flat": y.reshape(-1)[: y.shape[0] * 2]}


@pytest.fixture(scope="module")
def program() -> torch.export.ExportedProgram:
    torch.manual_seed(0)
    batch = torch.export.Dim("batch", min=2, max=64)
    return torch.export.export(
        Model().eval(),
        (torch.randn(2, 3, 8, 8), torch.randn(2, 4)),
        dynamic_shapes=({0: batch, 2: torch.export.Dim.DYNAMIC}, {0: batch}),
    )


@pytest.fixture(scope="module")
def saved(program: torch.export.ExportedProgram, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    return path


# Programs -----------------------------------------------------------------------------------


def test_a_program_keeps_its_dynamic_dimensions(program: torch.export.ExportedProgram) -> None:
    imported = import_model(program)
    assert imported.kind == "exported-program"
    assert inputs(imported) == {"x": ["batch", 3, "x_2", 8], "y": ["batch", 4]}
    assert outputs(imported) == ["scores", "flat"]
    assert [sample["x"].shape for sample in imported.samples] == [(2, 3, 8, 8), (3, 3, 9, 8)]
    assert_same(imported)


def test_a_file_with_given_names_and_examples(saved: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "model.bin"  # the content says what it is
    renamed.write_bytes(saved.read_bytes())
    options = ImportOptions(
        example_inputs=[
            (torch.randn(5, 3, 9, 8), torch.randn(5, 4)),
            (torch.randn(3, 3, 7, 8), torch.randn(3, 4)),
        ],
        dynamic_shapes={"x": {0: "pictures", 2: "height"}},
    )
    imported = import_model(renamed, options)
    assert imported.name == "model.bin"
    assert inputs(imported) == {"x": ["pictures", 3, "height", 8], "y": ["pictures", 4]}
    assert [len(sample["x"]) for sample in imported.samples] == [5, 3]
    assert_same(imported)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (ImportOptions(dynamic_shapes={"x": {3: "width"}}), UsageError, "axis 3 of 'x' is fixed"),
        (ImportOptions(dynamic_shapes={"z": {0: "n"}}), UsageError, "dynamic_shapes names 'z'"),
        (ImportOptions(example_inputs=(torch.ones(2),)), DataError, "do not fit"),
        (
            ImportOptions(example_inputs=(torch.ones(2, 3, 8, 9), torch.ones(2, 4))),
            DataError,
            "itself fails on the example inputs",
        ),
    ],
)
def test_options_that_do_not_fit(
    program: torch.export.ExportedProgram,
    options: ImportOptions,
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        import_model(program, options)


@pytest.mark.parametrize("layer", [torch.nn.Dropout(0.5), torch.nn.BatchNorm1d(4)])
def test_programs_in_training_mode_are_refused(layer: torch.nn.Module) -> None:
    program = torch.export.export(layer.train(), (torch.ones(2, 4),))
    with pytest.raises(ImportFailed, match=r"in training mode.*call module\.eval\(\)"):
        import_model(program)


# Files that would run code ------------------------------------------------------------------


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.canary,))


def read(path: Path) -> Records:
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, records: Mapping[str, bytes]) -> Path:
    writer = torch._C.PyTorchFileWriter(str(path))
    for name, data in records.items():
        if not name.startswith(".data/"):
            writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return path


def edited(path: str, find: str, new: str) -> Callable[[Records, Path], None]:
    """Replace the first occurrence of a text in a record; ``CANARY`` stands for the path."""

    def edit(records: Records, canary: Path) -> None:
        text = records[path].decode()
        assert find in text, text
        records[path] = text.replace(find, new.replace("CANARY", str(canary)), 1).encode()

    return edit


def pickled_examples(records: Records, canary: Path) -> None:
    buffer = io.BytesIO()
    torch.save((Payload(canary),), buffer)
    records["data/sample_inputs/model.pt"] = buffer.getvalue()


def pickled_weight(records: Records, canary: Path) -> None:
    buffer = io.BytesIO()
    torch.save(Payload(canary), buffer)
    records["data/weights/weight_0"] = buffer.getvalue()
    name = "data/weights/model_weights_config.json"
    config = json.loads(records[name])
    for payload in config["config"].values():
        payload["use_pickle"] |= payload["path_name"] == "weight_0"
    records[name] = json.dumps(config).encode()


def opaque_constant(records: Records, canary: Path) -> None:
    records["data/constants/opaque_obj_0"] = pickle.dumps(Payload(canary))
    name = "data/constants/model_constants_config.json"
    config = json.loads(records[name])
    meta = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}
    config["config"]["evil"] = meta | {"tensor_meta": None}
    records[name] = json.dumps(config).encode()


MODEL = "models/model.json"
SIZE = "Symbol('s17', positive=True, integer=True)"
TUPLE = r"{\"type\": \"builtins.tuple\", \"context\": \"null\""
# The type's own context makes torch import a module: here ``this``, which prints a poem.
ENUM = json.dumps(json.dumps(json.dumps({"__enum__": 1, "fqn": "this:a", "name": "b"})))[1:-1]
IMPORTING = r"{\"type\": \"builtins.tuple\", \"context\": " + ENUM
TOUCH = "__import__('pathlib').Path('CANARY').touch()"

ATTACKS: dict[str, tuple[Callable[[Records, Path], None], str]] = {
    "pickled example inputs": (pickled_examples, "example inputs that are more than tensors"),
    "pickled weight": (pickled_weight, "a pickle as 'conv.weight'"),
    "pickled constant": (opaque_constant, r"a member 'data/constants/opaque_obj_0'"),
    "expression": (edited(MODEL, SIZE, TOUCH), "the size"),
    "text in an expression": (edited(MODEL, SIZE, f'Add(\\"{TOUCH}\\", 1)'), "the size"),
    "expression as a list": (
        edited(MODEL, f'"expr_str": "{SIZE}"', f'"expr_str": {{"a": "{TOUCH}"}}'),
        "no text as expr_str",
    ),
    "attributes in an expression": (edited(MODEL, SIZE, "Integer(1).__class__"), "the size"),
    "guard": (edited(MODEL, "L['y'].size()[0]", f"({TOUCH} or 2)"), "the guard"),
    "operator of Python": (
        edited(MODEL, "torch.ops.aten.flip.default", "torch.serialization.os.system"),
        "the operator 'torch.serialization.os.system'",
    ),
    "operator that writes": (
        edited(MODEL, "torch.ops.aten.flip.default", "torch.ops.aten.save.default"),
        "the operator 'torch.ops.aten.save.default'",
    ),
    "module to import": (edited(MODEL, TUPLE, IMPORTING), "names a Python module"),
    "native library": (
        lambda records, canary: records.update({"data/aotinductor/model/a.so": b"x"}),
        "a member 'data/aotinductor/model/a.so'",
    ),
    "second model": (
        lambda records, canary: records.update({"models/other.json": b"{}"}),
        "a member 'models/other.json'",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_files_that_would_run_code_are_refused(name: str, saved: Path, tmp_path: Path) -> None:
    attack, message = ATTACKS[name]
    records, canary = read(saved), tmp_path / "ran"
    attack(records, canary)
    path = write(tmp_path / "model.pt2", records)
    with pytest.raises(SourceError, match=message) as caught:
        load_program(path)
    assert "which infopt does not load from a file" in str(caught.value)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["pickled example inputs", "pickled weight", "expression"])
@pytest.mark.filterwarnings("ignore")
def test_the_attacks_are_live(name: str, saved: Path, tmp_path: Path) -> None:
    """Torch itself falls for them; if this fails one day, the check may be too careful."""
    records, canary = read(saved), tmp_path / "ran"
    ATTACKS[name][0](records, canary)
    path = write(tmp_path / "model.pt2", records)
    try:
        torch.export.load(path)
    except Exception as error:
        assert canary.exists(), error  # noqa: PT017
    assert canary.exists()


@pytest.mark.parametrize(
    "size",
    [
        "Pow(Integer(9), Integer(99))",
        "Pow(Pow(Integer(9), Integer(4)), Integer(4))",
        "Integer(9)**Integer(99)",
        "LShift(Integer(1), Integer(4))",
        "factorial(Integer(9))",
        "1 if 1 else 2",
        "[1 for a in b]",
        "Add(*L)",
        "lambda: 1",
        "f'{1}'",
        "Integer(" * 200 + "1" + ")" * 200,
        "9" * 3000,
        "",
    ],
)
def test_sizes_that_are_no_small_arithmetic_are_refused(
    size: str, saved: Path, tmp_path: Path
) -> None:
    records = read(saved)
    edited(MODEL, SIZE, size)(records, tmp_path)
    with pytest.raises((SourceError, ImportFailed)) as caught:
        load_program(write(tmp_path / "model.pt2", records))
    assert "the size" in str(caught.value) or "cannot load" in str(caught.value)


def test_a_tensor_larger_than_the_file_is_refused(saved: Path, tmp_path: Path) -> None:
    records = read(saved)
    name = "data/weights/model_weights_config.json"
    edited(name, '"sizes": [{"as_int": 8}', '"sizes": [{"as_int": 99999999999}')(records, tmp_path)
    with pytest.raises(SourceError, match="larger than the file"):
        load_program(write(tmp_path / "model.pt2", records))


def test_a_zip_bomb_is_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in read(saved).items():
            archive.writestr(f"model/{name}", data)
        archive.writestr("model/extra/zeros", bytes(10_000_000))
    with pytest.raises(SourceError, match="unpack to more than the file"):
        load_program(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(share: float, saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    path = tmp_path / "model.pt2"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(SourceError, match="damaged"):
        import_model(path)


@pytest.mark.parametrize(
    ("name", "data"),
    [(MODEL, b"{}"), (MODEL, b"{"), ("archive_version", b"99"), (MODEL, None), (MODEL, b"\xff")],
)
def test_damaged_records_are_told(
    name: str, data: bytes | None, saved: Path, tmp_path: Path
) -> None:
    records = read(saved)
    if data is None:
        del records[name]
    else:
        records[name] = data
    with pytest.raises((SourceError, ImportFailed), match="save it again"):
        load_program(write(tmp_path / "model.pt2", records))
