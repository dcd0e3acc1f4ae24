import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from infopt.errors import DataError
from infopt.evidence.data import DataSource, load_data

MODEL = ir.from_onnx_text("""
<ir_version: 10, opset_import: ["" : 20]>
g (float[n,2] x, int64[n] k) => (float[n,2] y) { y = Identity (x) }
""")
GOOD: dict[str, Any] = {"x": np.zeros((3, 2), np.float32), "k": np.zeros(3, np.int64)}


def test_a_file_a_folder_and_dictionaries(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", **GOOD)
    np.savez(tmp_path / "a.npz", **GOOD)
    assert len(list(load_data(tmp_path / "a.npz", MODEL))) == 1
    assert [sample.origin for sample in load_data(tmp_path, MODEL)] == ["a.npz", "b.npz"]
    assert len(list(load_data([GOOD, GOOD, GOOD], MODEL))) == 3


def test_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_samples.py").write_text(
        "import numpy as np\n"
        "def some():\n"
        "    for n in (1, 2):\n"
        "        yield {'x': np.ones((n, 2), np.float32), 'k': np.ones(n, np.int64)}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert [s.inputs["x"].shape for s in load_data("my_samples:some", MODEL)] == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{**GOOD, "z": 1}], "'z', which is no input of the model"),
        ([{"x": GOOD["x"]}], "lacks input 'k'"),
        ([{**GOOD, "x": np.zeros((3, 2))}], r"'x' is float64, .* \.astype\('float32'\)"),
        ([{**GOOD, "x": np.zeros((3, 5), np.float32)}], r"'x' has shape \[3, 5\]"),
        ([{**GOOD, "x": np.zeros(3, np.float32)}], r"'x' has shape \[3\]"),
        ([[1, 2]], "samples are dictionaries"),
        ([], "holds no samples"),
        ("absent.npz", "there is no data at absent.npz"),
        ("absent_module:f", "cannot be imported"),
        ("json:dumpz", "did you mean 'dump'"),
    ],
)
def test_what_does_not_fit_is_named(data: DataSource, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(load_data(data, MODEL))


def test_files_that_are_no_archives(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK nonsense")
    with pytest.raises(DataError, match="not a readable"):
        list(load_data(tmp_path / "a.npz", MODEL))
    np.save(tmp_path / "b.npy", np.zeros(3))
    with pytest.raises(DataError, match="single array"):
        list(load_data(tmp_path / "b.npy", MODEL))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.npz"):
        list(load_data(tmp_path / "empty", MODEL))


class _Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.canary,)


def test_pickles_inside_are_not_run(tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    assert pickle.dumps(_Payload(canary))
    np.savez(tmp_path / "a.npz", x=np.array([_Payload(canary)], dtype=object))
    with pytest.raises(DataError, match="allow_pickle"):
        list(load_data(tmp_path / "a.npz", MODEL))
    assert not canary.exists()
