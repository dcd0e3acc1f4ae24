"""``infopt sensitivity``, and the limits of ``infopt optimize``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.support import Run, document, perceptron


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "samples"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        np.savez(folder / f"{number}.npz", x=rng.normal(size=(4, 8)).astype(np.float32))
    return folder


def test_the_table(infopt: Run, model: Path, data: Path) -> None:
    result = infopt("sensitivity", model, "--data", data, columns=80)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "Damage  2 nodes, the worst first"
    assert re.match(r" +node +operator +SQNR +weights +FLOPs$", lines[1])
    assert re.match(r"1  dense\d +MatMul +\d+\.\d dB +[\d.]+% +[\d.]+%$", lines[2])
    assert re.match(
        r"  each node quantized alone, on 3 samples; all together \d+\.\d dB$", lines[4]
    )
    assert max(map(len, lines)) <= 80
    verbs = [line.split()[0] for line in result.stderr.splitlines() if line]
    stages = ["Optimized", "Calibrated"] * 2  # before smoothing, and after
    assert verbs == ["Imported", *stages, "Compiled", "Ranked"]
    assert "Ranked 9 runs" in result.stderr


def test_the_worst_only(infopt: Run, model: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "ranking.json"
    result = infopt("sensitivity", model, "--data", data, "--top", "1", "-o", file)
    assert "1 node more, which do less damage (--top)" in result.stdout
    assert "\n2 " not in result.stdout
    assert len(json.loads(file.read_text())["nodes"]) == 2


def test_json_has_all(infopt: Run, model: Path, data: Path) -> None:
    found = document(infopt("sensitivity", model, "--data", data, "--top", "1", "--json"))
    assert {node["node"] for node in found["nodes"]} == {"dense1", "dense2"}
    assert set(found) == {"nodes", "together", "samples", "metric", "original"}
    assert sum(node["weights"] for node in found["nodes"]) == pytest.approx(1)


METRIC = """
import numpy as np

def score(outputs, inputs):
    return -float(np.mean([out["scores"].std() for out in outputs]))

def wrong(outputs, inputs):
    return outputs[0]["nothing"]

def empty(outputs, inputs):
    return float("nan")
"""


@pytest.fixture
def metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_cli_metric.py").write_text(METRIC)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_cli_metric"


def test_a_metric(infopt: Run, model: Path, data: Path, metric: str) -> None:
    name = f"{metric}:score"
    result = infopt("sensitivity", model, "--data", data, "--metric", name, columns=100)
    assert result.exit_code == 0, result.stderr
    assert re.search(r"SQNR +lost +weights", result.stdout)
    assert f"; {name} -" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("wrong", "failed with KeyError: 'nothing'"),
        ("empty", "returned nan; it must return a finite number"),
        ("scor", "has no function 'scor'; did you mean 'score'?"),
    ],
)
def test_metrics_that_do_not_work(
    infopt: Run, model: Path, data: Path, metric: str, function: str, said: str, tmp_path: Path
) -> None:
    name = ("--metric", f"{metric}:{function}")
    for command in (
        ("sensitivity", model, "--data", data),
        (
            "optimize",
            model,
            "-o",
            tmp_path / "e",
            "--data",
            data,
            "--precision",
            "int8",
            "--max-drop",
            "0.1",
        ),
    ):
        result = infopt(*command, *name)
        assert result.exit_code == 2
        assert said in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "needs to see which values"),
        (("--precision", "fp32"), "nothing is quantized"),
        (("--top", "0"), "--top"),
        (("--output", "no/such/folder/file.json"), "there is no folder no/such/folder"),
        (("--scheme", "keep=dens1"), "no such node; did you mean 'dense1'"),
    ],
)
def test_wrong_usage(
    infopt: Run, model: Path, data: Path, arguments: tuple[str, ...], said: str
) -> None:
    given = ("--data", data) if "keep=dens1" in arguments else ()
    result = infopt("sensitivity", model, *given, *arguments)
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr


def test_nodes_are_kept_by_name(infopt: Run, model: Path, data: Path, tmp_path: Path) -> None:
    command = ("optimize", model, "-o", tmp_path / "e", "--data", data, "--precision", "int8")
    result = infopt(*command, "--scheme", "keep=dense1", "--no-bench", "-v", columns=120)
    assert result.exit_code == 0, result.stderr
    assert re.search(r"quantize-static +dense1 +kept in float: keep names it", result.stdout)
    assert "1 of 1 quantized product run on integers" in result.stdout


def test_the_report_of_a_mixed_precision(infopt: Run, data: Path, tmp_path: Path) -> None:
    onnx.save(perceptron(scale=3.0, hidden=64), tmp_path / "m.onnx")
    common = ("--data", data, "--precision", "int8", "--no-bench")
    command = ("optimize", tmp_path / "m.onnx", "-o", tmp_path / "e", *common)
    plain = document(infopt(*command, "--json"))["manifest"]["evidence"]["equivalence"]
    wanted = plain["outputs"]["scores"]["sqnr_db"] + 2
    result = infopt(*command, "--max-error", f"{wanted:.2f}dB", columns=100)
    assert result.exit_code == 0, result.stderr
    report = result.stdout
    assert re.search(
        rf"  {wanted:.4g}\d* dB: held with 1 of 2 nodes in float \(\d+ dB with none\), 3 engines",
        report,
    )
    assert re.search(r"  dense\d +MatMul +\d+ dB", report)
    assert "quantize-static{keep=…,operators=" in report
    verbs = [line.split()[0] for line in result.stderr.splitlines() if line]
    assert verbs.count("Fitted") == 2
    shown = infopt("inspect", tmp_path / "e").stdout
    assert "1 of 2 nodes in float" in shown
    easy = infopt(*command, "--max-error", "5dB").stdout
    assert "10 dB: held with every node quantized" in easy
