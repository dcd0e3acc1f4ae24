from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from infopt.quant.calibration_file import load
from tests.cli.support import INFOPT, Run, document, no_leftovers, perceptron


def _samples(folder: Path, count: int, seed: int = 0) -> Path:
    """A folder of ``count`` samples for the perceptron."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        np.savez(folder / f"{number:03}.npz", x=rng.normal(size=(4, 8)).astype(np.float32))
    return folder


def test_what_was_seen_is_shown(infopt: Run, model: Path, tmp_path: Path) -> None:
    data = _samples(tmp_path / "data", 5)
    call = ("calibrate", model, "--data", data, "-o", tmp_path / "c.npz")
    result = infopt(*call, columns=300)
    assert result.exit_code == 0, result.stderr
    report = result.stdout
    # Channels before smoothing, histograms after.
    assert re.search(r"What was seen 1 +2 values on 5 samples", report)
    assert re.search(r"What was seen 2 +2 values on 5 samples", report)
    assert re.search(r"x +channels, histogram +−?-[\d.]+ +[\d.]+ +0.0% +·", report)
    assert re.search(r"h\S* +channels, histogram +0 +[\d.]+ +[1-9][\d.]+% +·", report)
    assert (
        f"infopt optimize {model} --target onnxruntime:cpu --precision int8 "
        f"--calibration {tmp_path / 'c.npz'}" in report
    )
    verbs = [line.split()[0] for line in result.stderr.splitlines() if line]
    assert verbs == ["Imported", *["Optimized", "Calibrated"] * 2, "Wrote"]


def test_values_that_are_not_finite_stand_out(infopt: Run, model: Path, tmp_path: Path) -> None:
    x = np.ones((4, 8), np.float32)
    x[0, 0] = np.inf
    np.savez(tmp_path / "x.npz", x=x)
    call = ("calibrate", model, "--data", tmp_path / "x.npz", "-o", tmp_path / "c.npz")
    assert re.search(r"x +channels, histogram +1 +1 +0.0% +1\n", infopt(*call).stdout)
    found = document(infopt(*call, "--json"))
    rows = {row["value"]: row for row in found["stages"][0]["seen"]}
    assert (rows["x"]["nonfinite"], rows["x"]["high"]) == (1, 1.0)


def test_json_is_what_was_seen(infopt: Run, model: Path, tmp_path: Path) -> None:
    data = _samples(tmp_path / "data", 3)
    result = infopt("calibrate", model, "--data", data, "-o", tmp_path / "c.npz", "--json")
    found = document(result)
    assert found["file"] == str(tmp_path / "c.npz")
    assert found["bytes"] == (tmp_path / "c.npz").stat().st_size
    assert len(found["stages"]) == 2  # before smoothing, and after
    for stage, loaded in zip(found["stages"], load(tmp_path / "c.npz"), strict=True):
        assert (stage["samples"], stage["synthetic"], stage["values"]) == (3, False, 2)
        assert (stage["model"], stage["data"]) == (loaded.model, loaded.data)
    assert found["left_out"] == 0


def test_many_values_are_cut_short(infopt: Run, tmp_path: Path) -> None:
    layers = 24
    nodes = [f"h{n + 1} = MatMul(h{n}, w)" for n in range(layers)]
    text = (
        '<ir_version: 10, opset_import: ["" : 21]> g (float[n,4] h0) => '
        f"(float[n,4] h{layers}) <float[4,4] w = {{{', '.join(['0.25'] * 16)}}}> "
        f"{{ {' '.join(nodes)} }}"
    )
    path = tmp_path / "deep.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    np.savez(tmp_path / "x.npz", h0=np.ones((2, 4), np.float32))
    call = ("calibrate", path, "--data", tmp_path / "x.npz", "-o", tmp_path / "c.npz")
    assert "and 4 more (-v shows them)" in infopt(*call).stdout
    assert "more" not in infopt(*call, "-v").stdout


def test_an_engine_from_a_calibration(infopt: Run, model: Path, tmp_path: Path) -> None:
    data = _samples(tmp_path / "data", 40)
    infopt("calibrate", model, "--data", data, "-o", tmp_path / "c.npz", "-q")
    common = ("optimize", model, "-o", tmp_path / "e", "--precision", "int8", "--no-bench")
    result = infopt(*common, "--calibration", tmp_path / "c.npz")
    assert result.exit_code == 0, result.stderr
    assert "2 values calibrated on 40 samples, by c.npz" in result.stdout
    assert "Calibrated" not in result.stderr
    manifest = document(infopt(*common, "--data", data, "--json"))["manifest"]
    again = document(infopt(*common, "--calibration", tmp_path / "c.npz", "--json"))["manifest"]
    assert manifest["model_digest"] == again["model_digest"]


def test_shards_are_merged(infopt: Run, model: Path, tmp_path: Path) -> None:
    for part in range(2):
        data = _samples(tmp_path / f"part{part}", 4, seed=part)
        output = tmp_path / f"{part}.npz"
        call = ("calibrate", model, "--data", data, "--shard", "-o", output)
        result = infopt(*call, columns=300)
        assert f"infopt calibrate -o FILE … --merge {output}\n" in result.stdout
        result = infopt(*call, "-q")
        assert (result.exit_code, result.stdout) == (0, "")
    files = (tmp_path / "0.npz", tmp_path / "1.npz")
    result = infopt("calibrate", "--merge", *files, "-o", tmp_path / "all.npz")
    assert result.exit_code == 0, result.stderr
    assert "2 values on 8 samples" in result.stdout
    (found,) = load(tmp_path / "all.npz")
    assert found.samples == 8


def test_what_a_merge_leaves_out_is_said(infopt: Run, tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[n,1024,8] x) => (float[n,1024,2] y)
    <float[8] g = {1, 1, 60, 1, 1, 1, 30, 1},
     float[8,2] w = {1, 2, -1, 1, 1, 1, 2, -1, 1, -2, 1, 1, -1, 1, 1, 2}>
    { c = LayerNormalization(x, g) y = MatMul(c, w) }"""
    path = tmp_path / "pair.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    for part in range(2):
        rng = np.random.default_rng(part)
        np.savez(tmp_path / f"x{part}.npz", x=rng.normal(size=(3, 1024, 8)).astype(np.float32))
        call = ("calibrate", path, "--data", tmp_path / f"x{part}.npz")
        assert infopt(*call, "-o", tmp_path / f"{part}.npz", "-q").exit_code == 0
    files = (tmp_path / "0.npz", tmp_path / "1.npz")
    result = infopt("calibrate", "--merge", *files, "-o", tmp_path / "all.npz", columns=300)
    assert "1 later calibration left out" in result.stdout
    assert f"--shard --continue-from {tmp_path / 'all.npz'}" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("{model}",), 2, "give real inputs with --data"),
        (("{model}", "{model}", "--data", "{data}"), 2, "to merge calibrations, say --merge"),
        (("--merge", "{model}", "{model}"), 2, "--merge needs -o FILE"),
        (("--merge", "{model}", "-o", "{room}/c.npz"), 2, "two calibrations or more"),
        (("--merge", "{model}", "{model}", "-o", "{room}/c.npz"), 3, "is no calibration"),
        (
            ("--merge", "{model}", "{model}", "-o", "{room}/c.npz", "--shard"),
            2,
            "nothing is observed",
        ),
        (("{model}", "--data", "{data}", "-o", "{model}"), 2, "does not overwrite it"),
        (("{model}", "--data", "{data}", "--continue-from", "{model}"), 3, "is no calibration"),
        (("{model}", "--data", "{data}", "--precision", "fp32"), 2, "nothing is to be observed"),
        (("{model}", "--data", "{room}/none.npz", "-o", "{room}/c.npz"), 2, "there is no data"),
    ],
)
def test_wrong_usage(
    infopt: Run,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    room = tmp_path / "room"
    room.mkdir()
    monkeypatch.chdir(room)
    data = _samples(tmp_path / "data", 2)
    words = [word.format(model=model, data=data, room=room) for word in arguments]
    result = infopt("calibrate", *words)
    assert result.exit_code == code, result.stderr
    assert said in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    no_leftovers(room)
    assert model.read_bytes() == perceptron().SerializeToString()


def test_ctrl_c_continues(model: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\n"
        "import numpy as np\n"
        "def samples():\n"
        "    for number in range(40):\n"
        "        print('sample', number, flush=True)\n"
        "        time.sleep(0.05)\n"
        "        yield {'x': np.full((2, 8), number, np.float32)}\n"
    )
    call = [*INFOPT, "calibrate", str(model), "--data", "slow:samples", "-o", "c.npz", "--json"]
    with subprocess.Popen(
        call,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=tmp_path,
    ) as child:
        assert child.stderr is not None
        shown = ""
        while "sample 9\n" not in shown:
            line = child.stderr.readline()
            assert line, shown
            shown += line
        child.send_signal(signal.SIGINT)
        shown += child.stderr.read()
        assert child.wait(timeout=60) == 3, shown
    assert "the same command continues there" in shown
    assert "Traceback" not in shown
    assert not (tmp_path / "c.npz").exists()
    done = subprocess.run(
        call, capture_output=True, text=True, check=True, env=environment, cwd=tmp_path, timeout=120
    )
    for stage in json.loads(done.stdout)["stages"]:
        assert stage["samples"] == 40
        assert stage["seen"][0]["value"]
    assert not (tmp_path / "c.npz.unfinished.npz").exists()
