"""What docs/gates.md says: its commands as they stand, its code, its table."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml

from infopt.cli import main
from infopt.gates.limits import FINDINGS
from tests.cli.support import perceptron

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/gates.md").read_text(encoding="utf-8")
# How long is not asked here, and the perceptron runs for microseconds.
QUICK = {"baseline": "--seconds 2 --no-cold-start", "check": "--seconds 2 --allow latency"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the page supposes to be there."""
    onnx.save(perceptron(), tmp_path / "model.onnx")
    np.savez(tmp_path / "samples.npz", x=np.eye(8, dtype=np.float32))
    np.save(tmp_path / "labels.npy", np.arange(8) % 4)
    (code,) = (block for block in blocks("python") if "def accuracy" in block)
    (tmp_path / "tasks.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_commands(workplace: Path) -> None:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    commands = [line.removeprefix("$ ") for line in lines if line.startswith("$ infopt")]
    assert len(commands) == 6
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    for command in commands:
        _, name, *words = shlex.split(command)
        words += shlex.split(QUICK.get(name, ""))
        done = subprocess.run(
            [sys.executable, "-m", "infopt", name, *words],
            capture_output=True,
            text=True,
            env=environment,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_the_table_has_all_findings_and_options_that_exist() -> None:
    assert re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE) == list(FINDINGS)
    known = {option for command in ("baseline", "bench", "check") for option in _options(command)}
    used = set(re.findall(r"(--[a-z][a-z-]+)", PAGE)) - {"--infopt-baseline"}
    assert used <= known


def _options(command: str) -> set[str]:
    from click.testing import CliRunner

    shown = CliRunner().invoke(main, [command, "--help"]).output
    return set(re.findall(r"(--[a-z][a-z-]+)", shown))


def test_the_snippets_fit_action_and_hook() -> None:
    (action,), (hook,) = (yaml.safe_load(block) for block in blocks("yaml"))
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    assert set(action["with"]) <= set(inputs)
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert {it["id"] for it in hook["hooks"]} == {it["id"] for it in hooks}


def test_what_it_links_to_exists() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (ROOT / "docs" / link).exists(), link
