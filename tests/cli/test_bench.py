from __future__ import annotations

import re
from pathlib import Path

import pytest

from infopt import needs
from tests.cli.support import Run, document


def test_models_and_engines_beside_each_other(infopt: Run, model: Path, engine: Path) -> None:
    result = infopt("bench", model, engine, "--batch", "2", "--seconds", "0.2", columns=250)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "Speed  at x=2×8"
    time = r"[\d.]+ .s"
    name = re.escape(str(model))
    assert re.search(rf"{name} +{time} +{time} +{time} +1\.00× +baseline", result.stdout)
    interval = r"[\d.]+–[\d.]+ +(better|same|worse|inconclusive)"
    name = re.escape(str(engine))
    assert re.search(rf"{name} +{time} +{time} +{time} +[\d.]+× +{interval}", result.stdout)
    assert "95% confidence" in result.stdout
    assert "cores" in lines[-1]


def test_json(infopt: Run, model: Path, engine: Path) -> None:
    found = document(
        infopt("bench", model, engine, "--shape", "x=1..3x8", "--seconds", "0.2", "--json")
    )
    assert found["subjects"] == [str(model), str(engine)]
    assert [run["sample"] for run in found["runs"]] == ["x=1×8", "x=3×8"]
    for run in found["runs"]:
        assert run["rounds"] >= 5
        row = run["subjects"][str(engine)]
        assert 0 < row["median"] <= row["p90"] <= row["p99"]
        assert row["ratio"]["low"] <= row["ratio"]["value"] <= row["ratio"]["high"]


def test_one_subject_has_no_ratio_to_show(infopt: Run, model: Path) -> None:
    result = infopt("bench", model, "--seconds", "0.1", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    result = infopt("bench", model, "--seconds", "0.1")
    assert "confidence" not in result.stdout


def test_a_batch_that_the_model_does_not_have(infopt: Run, tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "static.onnx"
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> '
        "g (float[2,3] z) => (float[2,3] y) { y = Relu(z) }"
    )
    onnx.save(onnx.parser.parse_model(text), path)
    result = infopt("bench", path, "--batch", "4")
    assert result.exit_code == 2
    assert "no such input or dynamic dimension" in result.stderr


def test_what_they_need(
    infopt: Run, model: Path, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "STARTS", 2)
    monkeypatch.setattr(needs, "THROUGHPUT_SECONDS", 0.1)
    words = ("--concurrency", "2", "--price-per-hour", "3.6", "--cold-start", "--seconds", "0.1")
    result = infopt("bench", model, engine, *words, columns=250)
    assert result.exit_code == 0, result.stderr
    assert "Needs  2 requests at a time" in result.stdout
    heads = "on disk +built in +a second +a million cost +first answer +memory"
    assert re.search(heads, result.stdout)
    name = re.escape(str(model))
    assert re.search(rf"{name} +[\d.]+ kB +– +[\d.]+ k? +[\d.]+ +[\d.]+ m?s +\d+ MB", result.stdout)
    found = document(infopt("bench", model, engine, *words, "--json"))["needs"]
    for name, row in found.items():
        assert row["cost"] == pytest.approx(1000 / row["requests_per_second"]), name
        assert row["cold_start"] > 0.05
        assert row["peak_rss"] > 20e6
    assert found[str(engine)]["built"] > 0
    assert found[str(model)]["built"] is None


def test_without_being_asked_only_the_size_is_told(infopt: Run, model: Path) -> None:
    found = document(infopt("bench", model, "--seconds", "0.1", "--json"))["needs"][str(model)]
    assert found.pop("bytes") == model.stat().st_size
    assert set(found.values()) == {None}
