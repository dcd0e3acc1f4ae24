"""The GitHub action, its example and the pre-commit hook: run as they stand."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml

import infopt
from infopt import gating
from tests.cli.support import perceptron
from tests.support import schemas
from tests.support.schemas import validate_junit

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
WORKFLOW = yaml.safe_load((ROOT / "examples/ci/gate.yml").read_text())
QUICK = "--seconds=1\n--allow=latency\n"


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A repository with a model, its engine and a baseline."""
    onnx.save(perceptron(), tmp_path / "model.onnx")
    infopt.optimize(tmp_path / "model.onnx", tmp_path / "model.engine", measure=False)
    gating.take_baseline(
        tmp_path / "model.engine", tmp_path / "baseline.json", cold_starts=False, seconds=0.5
    )
    return tmp_path


def run_steps(workplace: Path, **given: str) -> subprocess.CompletedProcess[str]:
    """The steps of the action as a runner runs them: each in bash, which stops at an error."""
    inputs = {name: entry.get("default", "") for name, entry in ACTION["inputs"].items()} | given
    environment = os.environ | {
        "GITHUB_STEP_SUMMARY": str(workplace / "summary.md"),
        "PYTHONPATH": str(Path(infopt.__file__).parents[1]),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for step in ACTION["runs"]["steps"]:
        if step.get("if") == "inputs.install != ''" and not inputs["install"]:
            continue
        assert step["shell"] == "bash"
        words = {name: _filled(text, inputs) for name, text in step["env"].items()}
        assert "${{" not in step["run"]  # what stands in an input is never run
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        done = subprocess.run(
            command, cwd=workplace, env=environment | words, capture_output=True, text=True
        )
        if done.returncode:
            return done
    return done


def _filled(text: str, inputs: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda match: inputs[match[1]], text)


@pytest.mark.slow
def test_green_and_red(workplace: Path) -> None:
    given = {"install": "", "arguments": QUICK}
    done = run_steps(workplace, engine="model.engine", **given)
    assert done.returncode == 0, done.stderr
    reports = workplace / "infopt-reports"
    assert json.loads((reports / "gate.json").read_text())["holds"]
    assert "### 🟢 infopt" in (workplace / "summary.md").read_text()
    assert "### 🟢 infopt" in done.stdout

    done = run_steps(workplace, engine="model.onnx", **given)
    assert done.returncode == 1, done.stderr
    assert not json.loads((reports / "gate.json").read_text())["holds"]
    assert json.loads((reports / "gate.sarif").read_text())["runs"][0]["results"]
    validate_junit((reports / "gate.xml").read_text())
    # The summary is that of all steps of the job; the log has what this one found.
    assert "### 🟢 infopt" in (workplace / "summary.md").read_text()
    assert "### 🔴 infopt: worse: operators" in (workplace / "summary.md").read_text()
    assert "### 🔴 infopt: worse: operators" in done.stdout
    assert "### 🟢 infopt" not in done.stdout


@pytest.mark.slow
def test_what_cannot_be_done_is_no_finding(workplace: Path) -> None:
    done = run_steps(workplace, engine="nowhere.engine", install="", arguments=QUICK)
    assert done.returncode == 3
    assert "nowhere.engine" in done.stderr
    assert not (workplace / "summary.md").exists()


@pytest.mark.slow
def test_inputs_are_words_and_never_commands(workplace: Path) -> None:
    nasty = "model $(touch pwned) `touch pwned`; touch pwned .engine"
    shutil.copytree(workplace / "model.engine", workplace / nasty)
    shutil.copy(workplace / "model.onnx", workplace / "the reference.onnx")
    done = run_steps(
        workplace,
        engine=nasty,
        install="",
        reference="the reference.onnx",
        arguments=QUICK + "--allow=size\n",
        reports="my reports",
        inconclusive="pass",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((workplace / "my reports/gate.json").read_text())["subject"] == nasty
    assert not (workplace / "pwned").exists()


def test_what_is_installed_is_one_word() -> None:
    (install,) = (step for step in ACTION["runs"]["steps"] if "if" in step)
    assert install["run"] == 'python -m pip install --quiet "$INSTALL"'
    assert ACTION["inputs"]["install"]["default"] == "infopt[cpu]"


def test_both_are_what_github_reads() -> None:
    assert schemas.mistakes(ACTION, schemas.ACTION) == []
    # YAML 1.1, which PyYAML reads, takes the key "on" for a truth.
    workflow = {"on" if key is True else key: value for key, value in WORKFLOW.items()}
    assert schemas.mistakes(workflow, schemas.WORKFLOW) == []
    assert schemas.mistakes(workflow | {"jobs": {"gate": {"runs-on": 1}}}, schemas.WORKFLOW)
    assert schemas.mistakes(ACTION | {"runs": {"using": "composite"}}, schemas.ACTION)


def test_the_action_is_composite_and_describes_all_that_it_takes() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert {"name", "description", "inputs", "outputs", "runs"} <= ACTION.keys()
    used = set(re.findall(r"inputs\.(\w+)", json.dumps(ACTION["runs"])))
    assert used == set(ACTION["inputs"])
    assert all(entry["description"] for entry in ACTION["inputs"].values())


def test_the_example_uses_what_there_is() -> None:
    steps: list[dict[str, Any]] = WORKFLOW["jobs"]["gate"]["steps"]
    (gate,) = (step for step in steps if str(step.get("uses", "")).startswith("infopt/"))
    assert set(gate["with"]) <= set(ACTION["inputs"])
    (upload,) = (step for step in steps if "upload-sarif" in str(step.get("uses")))
    assert upload["with"]["sarif_file"] == f"{ACTION['inputs']['reports']['default']}/gate.sarif"
    commands = "\n".join(step["run"] for step in steps if "run" in step)
    arguments = gate["with"]["arguments"].split() + re.findall(r"infopt (\w+)", commands)
    assert arguments == ["--max-slowdown=5%", "--max-size-growth=2%", "optimize"]


@pytest.mark.slow
def test_the_commands_of_the_example(workplace: Path) -> None:
    (step,) = (s for s in WORKFLOW["jobs"]["gate"]["steps"] if s.get("name") == "Compile the model")
    installs, *commands = step["run"].splitlines()
    assert installs == 'python -m pip install --quiet "infopt[cpu]"'
    for command in commands:
        words = [sys.executable, "-m", *command.split()]
        environment = os.environ | {"PYTHONPATH": str(Path(infopt.__file__).parents[1])}
        subprocess.run(words, cwd=workplace, check=True, env=environment, capture_output=True)


@pytest.mark.slow
def test_the_pre_commit_hook(workplace: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert (hook["language"], hook["pass_filenames"]) == ("python", False)
    words = ["model.engine", "--baseline", "baseline.json", *QUICK.split()]
    command = [sys.executable, "-m", *hook["entry"].split(), *words]
    environment = os.environ | {"PYTHONPATH": str(Path(infopt.__file__).parents[1])}
    done = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    command[command.index("model.engine")] = "model.onnx"
    done = subprocess.run(command, cwd=workplace, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
