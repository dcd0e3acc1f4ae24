"""Engines for TensorRT for RTX, built for real; none of them is run: that takes a GPU."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import infopt
from infopt.backends.tensorrt import cuda, runtime
from infopt.errors import (
    CompileError,
    EngineError,
    Interrupted,
    StrictError,
    UnavailableError,
    UsageError,
)
from infopt.events import Event

MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[n,3,s] x) => (float[n,4,s] y)
<float[4,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}>
{
   m = MatMul (w, x)
   g = Sigmoid (m)
   y = Mul (m, g)
}
"""
SHAPE = "x=1..8x3x1..64@2x3x16"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(onnx.parser.parse_model(MODEL), path)
    return path


@pytest.fixture(scope="module")
def built(rtx: str, model: Path, tmp_path_factory: pytest.TempPathFactory) -> infopt.Engine:
    output = tmp_path_factory.mktemp("engines") / "engine"
    return infopt.optimize(model, output, target=rtx, shapes=[SHAPE])


@pytest.fixture
def engine(built: infopt.Engine, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(built.path, tmp_path / "engine")
    return tmp_path / "engine"


@pytest.fixture
def no_gpu() -> None:
    try:
        cuda.driver()
    except UnavailableError:
        return
    pytest.skip("there is a GPU here")


def test_the_directory(built: infopt.Engine) -> None:
    assert set(built.manifest.files) == {"engine.json", "engine.plan", "model.onnx", "model.data"}
    assert built.file("engine.plan").stat().st_size > 1000


def test_the_manifest_says_what_was_built(built: infopt.Engine, rtx: str) -> None:
    build = built.manifest.build
    assert built.manifest.target == rtx
    assert build["version"] == runtime.library(parse(rtx)).__version__
    assert build["capabilities"] == ["sm89"]
    assert build["gpu"] == {}
    assert build["profiles"] == [
        {"x": {"least": [1, 3, 1], "usual": [2, 3, 16], "most": [8, 3, 64]}}
    ]
    assert build["options"]["workspace"] is None
    assert build["plan"]["sha256"] == built.manifest.files["engine.plan"]["sha256"]
    assert build["network"]["matrix_multiply float"] == 1
    assert build == json.loads(built.file("engine.json").read_text())


@pytest.mark.usefixtures("no_gpu")
def test_it_was_simulated_and_says_so(built: infopt.Engine) -> None:
    evidence = built.manifest.evidence
    assert evidence["equivalence"]["holds"]
    assert evidence["equivalence"]["ran"] == "simulated on the processor"
    tried = {sample.partition("x=")[2] for sample in evidence["equivalence"]["samples"]}
    assert {"1×3×1", "8×3×64"} <= tried
    assert evidence["engine"].startswith("built, not run: there is no NVIDIA GPU")
    assert evidence["speed"].startswith("not measured")


@pytest.mark.usefixtures("no_gpu")
def test_running_takes_a_gpu(built: infopt.Engine) -> None:
    with pytest.raises(UnavailableError, match="there is no NVIDIA GPU here"):
        infopt.load(built.path)


@pytest.mark.usefixtures("no_gpu")
def test_strict_forbids_an_engine_that_was_not_run(rtx: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(StrictError, match="target was not measured"):
        infopt.optimize(model, tmp_path / "e", target=rtx, shapes=[SHAPE], strict=True)
    assert not list(tmp_path.iterdir())


def parse(name: str) -> Any:
    from infopt.target import parse_target

    return parse_target(name)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _swap_plan(engine: Path, other: Path) -> None:
    shutil.copy(other / "engine.plan", engine / "engine.plan")


@pytest.fixture(scope="module")
def other(rtx: str, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("engines") / "other"
    return infopt.optimize(model, output, target=rtx, shapes=["x=4x3x16"], verify=False).path


def _edit(engine: Path, name: str, **fields: object) -> None:
    document = json.loads((engine / name).read_text())
    document.update(fields)
    (engine / name).write_text(json.dumps(document))


DAMAGE: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "a flipped byte": (lambda e, _: _flip(e / "engine.plan"), "engine.plan is not the file"),
    "a swapped plan": (_swap_plan, "engine.plan is not the file that was built"),
    "an edited manifest": (
        lambda e, _: _edit(e, "manifest.json", target="tensorrt-rtx:sm86"),
        "it was edited, or its seal was taken off",
    ),
    "edited facts": (
        lambda e, _: _edit(e, "engine.json", capabilities=[]),
        "engine.json is not the file that was built",
    ),
    "no plan": (lambda e, _: (e / "engine.plan").unlink(), "engine.plan is missing"),
    "a flipped byte of the model": (lambda e, _: _flip(e / "model.onnx"), "model.onnx is not the"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("verify", [True, False])
def test_what_is_not_whole_is_refused_before_it_is_deserialized(
    engine: Path, other: Path, damage: str, verify: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if damage == "a flipped byte of the model":
        verify = True  # without, only native code and the manifest are compared
    do, message = DAMAGE[damage]
    do(engine, other)

    def library(target: object) -> None:
        raise AssertionError("TensorRT was asked before all was compared")

    monkeypatch.setattr(runtime, "library", library)
    with pytest.raises(EngineError, match=message):
        infopt.load(engine, verify=verify)


def test_an_engine_of_another_version_is_refused(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "installed_version", lambda target: "1.99.0")
    with pytest.raises(EngineError, match=r"built with tensorrt-rtx 1\..*here is .*1\.99\.0"):
        infopt.load(engine)


def test_unbounded_dimensions_are_refused_before_any_work(
    rtx: str, model: Path, tmp_path: Path
) -> None:
    heard: list[Event] = []
    with pytest.raises(UsageError, match=r"n, s have none; .*--shape x="):
        infopt.optimize(model, tmp_path / "e", target=rtx, on_event=heard.append)
    assert [event.stage for event in heard] == ["import"]
    assert not list(tmp_path.iterdir())


def test_bounds_from_data(rtx: str, model: Path, tmp_path: Path) -> None:
    data = [{"x": np.ones((n, 3, s), np.float32)} for n, s in ((1, 5), (4, 7), (2, 6))]
    engine = infopt.optimize(model, tmp_path / "e", target=rtx, data=data)
    assert engine.manifest.build["profiles"] == [
        {"x": {"least": [1, 3, 5], "usual": [2, 3, 6], "most": [4, 3, 7]}}
    ]


PROFILES = ("x=1x3x1..64@1x3x16", "n=8..32@8,s=128")


def test_several_profiles(rtx: str, model: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(model, tmp_path / "e", target=rtx, profiles=PROFILES)
    assert engine.manifest.build["profiles"] == [
        {"x": {"least": [1, 3, 1], "usual": [1, 3, 16], "most": [1, 3, 64]}},
        {"x": {"least": [8, 3, 128], "usual": [8, 3, 128], "most": [32, 3, 128]}},
    ]
    tried = engine.manifest.evidence["equivalence"]["samples"]
    sizes = {sample.partition("x=")[2] for sample in tried}
    assert sizes == {"1×3×1", "1×3×64", "8×3×128", "32×3×128"}
    one = infopt.optimize(
        model, tmp_path / "one", target=rtx, shapes=[SHAPE], verify=False
    ).manifest.build
    assert engine.manifest.build["plan"]["bytes"] > one["plan"]["bytes"]


def test_profiles_that_cannot_be_are_refused_before_any_work(
    rtx: str, model: Path, tmp_path: Path
) -> None:
    heard: list[Event] = []
    with pytest.raises(UsageError, match=r"profile 2: .*, and s has none"):
        infopt.optimize(
            model, tmp_path / "e", target=rtx, profiles=["n=1,s=4", "n=2"], on_event=heard.append
        )
    assert [event.stage for event in heard] == ["import"]
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="profiles are for TensorRT"):
        infopt.optimize(model, tmp_path / "e", profiles=["n=1,s=4"])


def test_progress_is_told(rtx: str, model: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    infopt.optimize(
        model, tmp_path / "e", target=rtx, shapes=[SHAPE], verify=False, on_event=heard.append
    )
    steps = [event for event in heard if event.stage == "build"]
    assert len(steps) > 1
    assert all(event.detail.startswith(rtx) for event in steps)
    assert any(event.total and event.done == event.total for event in steps)


def test_options_are_used_and_recorded(rtx: str, model: Path, tmp_path: Path) -> None:
    wishes = {
        "optimization_level": "0",
        "workspace": "64MiB",
        "tf32": "true",
        "weight_streaming": "true",
        "sparse_weights": "true",
        "tactic_sources": "jit_convolutions",
        "max_tactics": "4",
        "timing_iterations": "2",
        "aux_streams": "0",
        "tiling": "fast",
    }
    engine = infopt.optimize(
        model,
        tmp_path / "e",
        target=rtx,
        shapes=[SHAPE],
        verify=False,
        provider_options=wishes,
    )
    options = engine.manifest.build["options"]
    assert (options["optimization_level"], options["workspace"]) == (0, 64 << 20)
    assert options["tf32"]
    assert options["weight_streaming"]
    assert (options["tiling"], options["tactic_sources"]) == ("fast", ["JIT_CONVOLUTIONS"])
    with pytest.raises(UsageError, match="no option 'workspce'; did you mean 'workspace'"):
        infopt.optimize(model, target=rtx, provider_options={"workspce": "1GiB"})


def test_an_engine_for_many_gpus(model: Path, rtx: str, tmp_path: Path) -> None:
    del rtx
    sizes = {}
    for target in ("tensorrt-rtx:sm86+sm89+sm120", "tensorrt-rtx"):
        engine = infopt.optimize(
            model, tmp_path / target, target=target, shapes=[SHAPE], verify=False
        )
        assert engine.manifest.target == target
        sizes[target] = engine.manifest.build["capabilities"]
    assert list(sizes.values()) == [["sm86", "sm89", "sm120"], []]


UNSUPPORTED = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[3,3] x) => (float y, float[3,3] z, float[3,3] k)
{
   y = Det (x)
   b = Cast <to = 12> (x)
   s = BitShift <direction = "LEFT"> (b, b)
   z = Cast <to = 1> (s)
   k = Bernoulli (x)
}
"""


def test_all_unsupported_nodes_are_named_at_once(rtx: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    proto = onnx.parser.parse_model(UNSUPPORTED)
    layers = {"Det": 0, "BitShift": 1, "Bernoulli": 2}
    for node in proto.graph.node:
        node.name = f"/encoder/layer.{layers.get(node.op_type, 1)}/{node.op_type.lower()}"
    onnx.save(proto, path)
    with pytest.raises(CompileError) as caught:
        infopt.optimize(path, tmp_path / "e", target=rtx, verify=False)
    said = str(caught.value)
    for operator, layer in layers.items():
        line = next(line for line in said.splitlines() if line.strip().startswith(operator))
        assert f"(layer layer.{layer})" in line
        assert "write it with others" in line
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]


def test_kill_9_of_the_build(
    rtx: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def doomed(*args: Any, **options: Any) -> Any:
        process = popen(*args, **options)
        os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(subprocess, "Popen", doomed)
    with pytest.raises(CompileError, match=r"was killed \(SIGKILL\).*no engine was written"):
        infopt.optimize(model, tmp_path / "e", target=rtx, shapes=[SHAPE], verify=False)
    assert not list(tmp_path.iterdir())


def test_ctrl_c_during_the_build(rtx: str, model: Path, tmp_path: Path) -> None:
    def press(event: Event) -> None:
        if event.stage == "build" and event.total:
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(Interrupted, match="nothing half-written"):
        infopt.optimize(
            model, tmp_path / "e", target=rtx, shapes=[SHAPE], verify=False, on_event=press
        )
    assert time.monotonic() - began < 60
    assert not list(tmp_path.iterdir())
