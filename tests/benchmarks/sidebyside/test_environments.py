import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.sidebyside import environments
from benchmarks.sidebyside.environments import REQUIREMENTS, make, pins
from benchmarks.sidebyside.peers import PEERS


@pytest.mark.parametrize("file", sorted(REQUIREMENTS.iterdir()), ids=lambda file: file.name)
def test_everything_is_pinned(file: Path) -> None:
    first, *lines = file.read_text().splitlines()
    assert first.startswith("# ")
    assert all(line.count("==") == 1 and "+" not in line for line in lines)


def test_every_environment_has_its_pins() -> None:
    names = {peer.environment for peer in PEERS} - {""}
    assert names == {
        "onnxruntime",
        "onnxscript",
        "onnxslim",
        "olive",
        "optimum",
        "openvino",
        "torch",
    }
    for name in names:
        assert pins(name)["numpy"]


def test_all_on_onnxruntime_run_the_same_one() -> None:
    names = {p.environment for p in PEERS if p.runtime == "ONNX Runtime"} - {""}
    (version,) = {pins(name)["onnxruntime"] for name in names}
    constraints = (REQUIREMENTS.parents[2] / "constraints.txt").read_text().splitlines()
    assert f"onnxruntime=={version}" in constraints  # infopt's own


def test_torch_modules_are_made_with_the_versions_of_the_exports() -> None:
    constraints = (REQUIREMENTS.parents[2] / "constraints.txt").read_text().splitlines()
    for package in ("torch", "transformers"):
        assert f"{package}=={pins('torch')[package]}" in constraints


@pytest.fixture
def requirements(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "requirements"
    folder.mkdir()
    (folder / "empty.txt").write_text("# Nothing.\n")
    monkeypatch.setattr(environments, "REQUIREMENTS", folder)
    return folder


def test_an_environment_is_made_once_and_again_for_other_pins(
    requirements: Path, tmp_path: Path
) -> None:
    root = tmp_path / "environments"
    first = make(["empty", ""], root)
    assert first[""].python == Path(sys.executable)
    assert not first["empty"].error
    assert first["empty"].seconds > 0
    command = [str(first["empty"].python), "-c", "import sys; print(sys.prefix)"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()) == root / "empty"
    assert make(["empty"], root)["empty"].seconds == 0
    (requirements / "empty.txt").write_text("# Nothing at all.\n")
    assert make(["empty"], root)["empty"].seconds > 0


def test_what_cannot_be_installed_is_said(requirements: Path, tmp_path: Path) -> None:
    (requirements / "broken.txt").write_text("./no-such-folder\n")
    found = make(["broken"], tmp_path / "environments")["broken"]
    assert "no-such-folder" in found.error
    assert not (tmp_path / "environments" / "broken" / "made-of").exists()
