"""The process that builds, and what becomes of its end, whichever it is."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infopt.backends.tensorrt import builder, timings
from infopt.backends.tensorrt.builder import Request, build
from infopt.backends.tensorrt.options import BuildOptions
from infopt.backends.tensorrt.profiles import Range
from infopt.errors import CompileError, UnavailableError


def _unwatched(phase: str, done: int, total: int) -> None: ...


@pytest.fixture
def request_(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.setenv("PYTHONPATH", str(Path("tests/support/pretended").resolve()))
    monkeypatch.setenv("PRETEND", "build")
    return Request(
        module="pretended_tensorrt",
        model=tmp_path / "model.onnx",
        plan=tmp_path / "engine.plan",
        capabilities=("sm86", "sm89"),
        profiles=(
            {"x": Range((1, 4), (2, 4), (8, 4))},
            {"x": Range((16, 4), (16, 4), (32, 4))},
        ),
        options=BuildOptions(workspace=1024, optimization_level=5, refit=True),
        timings=tmp_path / "kept" / "a.timings",
    )


USUAL = [
    "no VERSION_COMPATIBLE",
    "no REFIT",
    "no STRIP_PLAN",
    "no TF32",
    "no WEIGHT_STREAMING",
    "no SPARSE_WEIGHTS",
    "no EXCLUDE_LEAN_RUNTIME",
    "profiling_verbosity=DETAILED",
]
"""What TensorRT is told where no option is given."""


def test_all_that_was_asked_for_reaches_tensorrt(request_: Request, tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    built = build(request_, tmp_path, lambda *step: heard.append(step))
    assert request_.plan.read_text().splitlines() == [
        "SM86",
        "SM89",
        "WORKSPACE=1024",
        "no VERSION_COMPATIBLE",
        "REFIT",
        "no STRIP_PLAN",
        "no TF32",
        "no WEIGHT_STREAMING",
        "no SPARSE_WEIGHTS",
        "no EXCLUDE_LEAN_RUNTIME",
        "x=([1, 4], [2, 4], [8, 4])",
        "x=([16, 4], [16, 4], [32, 4])",
        "num_compute_capabilities=2",
        "builder_optimization_level=5",
        "profiling_verbosity=DETAILED",
    ]
    assert heard == [("building", 0, 2), ("building", 1, 2), ("building", 2, 2)]
    assert (built.version, built.warnings) == ("99.1", ("slow kernel",))
    assert built.network == {"elementwise float": 2}
    assert built.seconds > 0


@pytest.mark.parametrize(
    ("name", "text", "heard"),
    [
        ("workspace", "1KiB", ["WORKSPACE=1024"]),
        ("optimization_level", "0", ["builder_optimization_level=0"]),
        ("tf32", "true", ["TF32"]),
        ("version_compatible", "true", ["VERSION_COMPATIBLE"]),
        ("exclude_lean_runtime", "true", ["EXCLUDE_LEAN_RUNTIME"]),
        ("hardware_compatible", "ampere", ["hardware_compatibility_level=AMPERE_PLUS"]),
        ("hardware_compatible", "same", ["hardware_compatibility_level=SAME_COMPUTE_CAPABILITY"]),
        ("refit", "true", ["REFIT"]),
        ("strip_weights", "true", ["STRIP_PLAN"]),
        ("weight_streaming", "true", ["WEIGHT_STREAMING"]),
        ("sparse_weights", "true", ["SPARSE_WEIGHTS"]),
        ("tactic_sources", "jit_convolutions", ["sources=0b10000"]),
        ("tactic_sources", "JIT_CONVOLUTIONS+edge_mask_convolutions", ["sources=0b11000"]),
        ("tactic_sources", "none", ["sources=0b0"]),
        ("max_tactics", "7", ["max_num_tactics=7"]),
        ("timing_iterations", "8", ["avg_timing_iterations=8"]),
        ("aux_streams", "0", ["max_aux_streams=0"]),
        ("tiling", "moderate", ["tiling_optimization_level=MODERATE"]),
    ],
)
def test_each_option_reaches_tensorrt(
    request_: Request, tmp_path: Path, name: str, text: str, heard: list[str]
) -> None:
    request = dataclasses.replace(
        request_,
        capabilities=(),
        profiles=({},),
        options=BuildOptions.parse({name: text}),
        timings=None,
    )
    build(request, tmp_path, _unwatched)
    said = request_.plan.read_text().splitlines()
    assert [line for line in said if line not in USUAL] == heard
    negated = [f"no {flag}" for flag in heard if "=" not in flag]
    assert [line for line in USUAL if line not in said] == negated


def test_timings_grow_from_build_to_build(request_: Request, tmp_path: Path) -> None:
    for _ in range(3):
        assert build(request_, tmp_path, _unwatched).timing_cache
    assert request_.timings is not None
    kept = timings.read(request_.timings, tmp_path)
    assert kept is not None
    assert kept.read_bytes() == b"+++"


def test_without_a_place_for_timings_none_are_kept(request_: Request, tmp_path: Path) -> None:
    request = dataclasses.replace(request_, timings=None)
    assert not build(request, tmp_path, _unwatched).timing_cache
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("die", r"was killed \(SIGKILL\); no engine was written\. Was there enough memory\?"),
        ("exit", "ended with exit code 7; its last words: cuda: an illegal memory access"),
        ("fail", "could not build the engine: no kernel for node c"),
    ],
)
def test_a_bad_end_is_an_error_and_leaves_the_timings_alone(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, message: str
) -> None:
    build(request_, tmp_path, _unwatched)
    request_.plan.unlink()
    assert request_.timings is not None
    before = request_.timings.read_bytes()
    monkeypatch.setenv("PRETEND", what)
    with pytest.raises(CompileError, match=message):
        build(request_, tmp_path, _unwatched)
    assert not request_.plan.exists()
    assert request_.timings.read_bytes() == before
    assert [file.name for file in request_.timings.parent.iterdir()] == [request_.timings.name]


def test_a_refusal_holds_every_complaint(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETEND", "refuse")
    with pytest.raises(builder.RefusedError) as caught:
        build(request_, tmp_path, _unwatched)
    assert [complaint["node"] for complaint in caught.value.complaints] == ["/layer.0/a", "b"]


def test_a_library_that_does_not_load_is_named(request_: Request, tmp_path: Path) -> None:
    request = dataclasses.replace(request_, module="no_such_tensorrt")
    with pytest.raises(UnavailableError, match="no_such_tensorrt does not load"):
        build(request, tmp_path, _unwatched)


def _children() -> set[int]:
    mine = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
    return set(map(int, Path(mine).read_text().split()))


def test_ctrl_c_ends_the_process_that_builds(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETEND", "hang")
    before = _children()

    def press_ctrl_c(phase: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(request_, tmp_path, press_ctrl_c)
    assert _children() <= before
    assert not request_.plan.exists()


_WAITING = """
import os, sys
from pathlib import Path
from infopt.backends.tensorrt.builder import Request, build
from infopt.backends.tensorrt.options import BuildOptions

room = Path(sys.argv[1])
request = Request("pretended_tensorrt", room, room / "plan", (), ({},), BuildOptions(), None)
mine = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
build(request, room, lambda *_: print(mine.read_text(), flush=True))
"""


def test_a_builder_does_not_outlive_whoever_waits(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETEND", "hang")
    source = Path("src").resolve()
    environment = {**os.environ, "PYTHONPATH": f"{source}:{os.environ['PYTHONPATH']}"}
    waiting = subprocess.Popen(
        [sys.executable, "-c", _WAITING, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    )
    with waiting:
        assert waiting.stdout is not None
        child = int(waiting.stdout.readline())
        waiting.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_running(child)


def _is_running(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
