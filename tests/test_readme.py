"""The README's commands and code, run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import models

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n,3,224,224] x) => (float[n,8,k,l] y)
<float[8,3,1,1] w = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.1, 0.2, 0.3, 0.4,
                     0.5, 0.6, 0.7, 0.8, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8}>
{
   c = Conv <strides = [8, 8]> (x, w)
   y = Relu (c)
}
"""

# What tells a person enough takes seconds; a test needs only that the command works.
QUICK = {
    "bench": "--seconds 1",
    "baseline": "--seconds 5",
    "check": "--seconds 5 --inconclusive pass",
}


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the README supposes to be there."""
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "model.onnx")
    np.savez(tmp_path / "samples.npz", x=np.ones((2, 3, 224, 224), np.float32))
    (tmp_path / "path/to").mkdir(parents=True)
    (tmp_path / "path/to/hf-directory").symlink_to(models.minilm())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_the_commands(workplace: Path) -> None:
    lines = [line for block in _blocks("console") for line in block.splitlines()]
    commands = [line.removeprefix("$ ").partition("#")[0] for line in lines if "$ infopt" in line]
    assert len(commands) >= 6
    for command in commands:
        _, name, *words = shlex.split(command)
        words = [name, *words, *QUICK.get(name, "").split()]
        done = subprocess.run(
            [sys.executable, "-m", "infopt", *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"


@pytest.mark.slow
def test_the_python_code(workplace: Path) -> None:
    pytest.importorskip("torch")
    blocks = _blocks("python")
    assert len(blocks) == 3
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], check=True)


def test_the_make_targets_exist() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^\$ make (\S+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_what_it_links_to_exists() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (Path(__file__).parents[1] / link).exists(), link


def test_the_extras_exist() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for extra in re.findall(r"^\| `(\w[\w-]*)` \|", README, re.MULTILINE):
        assert extra in project["optional-dependencies"]
