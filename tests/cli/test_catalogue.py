"""``passes``, ``targets`` and ``doctor``: what there is, and whether it works here."""

from __future__ import annotations

import dataclasses

import pytest

from infopt import environment
from infopt.backends.tensorrt import runtime
from infopt.environment import Check, Gpu, Level
from infopt.passes import PASSES
from infopt.target import TARGETS
from tests.cli.support import Run, document


def test_passes_lists_every_pass_with_its_options(infopt: Run) -> None:
    listed = {entry["name"]: entry for entry in document(infopt("passes", "--json"))}
    assert list(listed) == list(PASSES)
    for name, a_pass in PASSES.items():
        assert listed[name]["preserves"] == a_pass.preserves.value
        assert listed[name]["summary"], name
        assert listed[name]["options"] == {
            field.name: field.default for field in dataclasses.fields(a_pass)
        }


def test_passes_for_people(infopt: Run) -> None:
    text = infopt("passes", columns=60).stdout
    for name, a_pass in PASSES.items():
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        assert a_pass.preserves.value in line
    assert max(map(len, text.splitlines())) <= 60


def test_targets(infopt: Run) -> None:
    listed = document(infopt("targets", "--json"))
    assert [entry["name"] for entry in listed] == list(TARGETS)
    assert [entry["name"] for entry in listed if entry["default"]] == ["onnxruntime:cpu"]
    for entry in listed:
        assert entry["available"] == (not entry["reason"])
        assert entry["builds"] or not entry["available"]
    text = infopt("targets").stdout
    assert all(name in text for name in TARGETS)


def test_a_target_that_is_not_here_says_why(infopt: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "gpu", lambda: Gpu((), ""))
    result = infopt("targets")
    assert "onnxruntime:cuda: there is no NVIDIA GPU here" in result.stdout


def test_a_target_whose_library_is_missing_says_what_to_install(
    infopt: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_MODULES", {"tensorrt": ("no_rt",), "tensorrt-rtx": ("no_rtx",)})
    runtime.unavailable.cache_clear()
    try:
        text = infopt("targets").stdout
        listed = document(infopt("targets", "--json"))
    finally:
        runtime.unavailable.cache_clear()
    assert 'tensorrt: TensorRT is not installed: pip install "infopt[tensorrt]"' in text
    assert (
        'tensorrt-rtx: TensorRT for RTX is not installed: pip install "infopt[tensorrt-rtx]"'
        in text
    )
    assert [entry["name"] for entry in listed if entry["builds"]] == [
        "onnxruntime:cpu",
        "onnxruntime:cuda",
    ]


def test_doctor_looks_at_what_infopt_needs(infopt: Run) -> None:
    result = infopt("doctor", "--json")
    found = document(result)
    subjects = {check["subject"]: check for check in found["checks"]}
    for name in ("python", "onnx", "onnx-ir", "onnxscript", "numpy", "torch", "NVIDIA GPU"):
        assert name in subjects
    assert subjects["onnx"]["level"] == "ok"
    assert subjects["ONNX limits"]["found"] == "opset 26, IR version 13"
    assert found["ok"] == (result.exit_code == 0)


@pytest.mark.parametrize(
    ("level", "code", "verdict"),
    [
        (Level.OK, 0, "everything fits together"),
        (Level.NOTE, 0, "everything fits together"),
        (Level.WARN, 0, "infopt can work; 1 thing to look at"),
        (Level.FAIL, 1, "1 thing must be mended"),
    ],
)
def test_doctor_says_what_to_do(
    infopt: Run, monkeypatch: pytest.MonkeyPatch, level: Level, code: int, verdict: str
) -> None:
    check = Check("onnx", level, "1.0", ">=1.23", "pip install onnx")
    monkeypatch.setattr(environment, "diagnose", lambda: [check])
    result = infopt("doctor")
    assert result.exit_code == code
    assert verdict in result.stdout
    assert "onnx: pip install onnx" in result.stdout
