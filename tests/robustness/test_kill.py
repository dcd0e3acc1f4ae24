"""``kill -9`` at any moment leaves the old engine, a new one, or none: never a broken one."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

import infopt
from tests.robustness import seeds

Outputs = Mapping[str, np.ndarray]

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32)


def start(model: Path, engine: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "infopt", "optimize", str(model), "-o", str(engine)]
    return subprocess.Popen(
        [*command, "--no-bench", "--threads", "1", "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(model: Path, engine: Path) -> float:
    """Let a run end by itself; how many seconds it took."""
    began = time.monotonic()
    with start(model, engine) as process:
        _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()
    return time.monotonic() - began


def appears(parent: Path, pattern: str) -> Callable[[], bool]:
    """Whether something that matches ``pattern`` has come into being since now."""
    known = set(parent.glob(pattern))

    def appeared() -> bool:
        # The run that is watched may take a directory away while it is being listed.
        with contextlib.suppress(FileNotFoundError):
            return bool(set(parent.glob(pattern)) - known)
        return False

    return appeared


def kill_when(process: subprocess.Popen[bytes], moment: Callable[[], bool], delay: float) -> bool:
    """``kill -9`` at ``moment``; whether the process was still running then."""
    while process.poll() is None and not moment():
        time.sleep(0.0005)
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with process:
        process.communicate()
    return process.returncode == -signal.SIGKILL


def moment_of(rng: random.Random, seconds: float, engine: Path) -> tuple[Callable[[], bool], float]:
    """A random moment of the run, or a random while after a file has come into being."""
    if rng.random() < 0.5:
        end = time.monotonic() + rng.uniform(0, seconds)
        return lambda: time.monotonic() >= end, 0.0
    staged = f".{engine.name}.*/"
    patterns = (
        staged,
        f"{staged}*/model.onnx",
        f"{staged}*/model.data",
        f"{staged}*/manifest.json",
    )
    return appears(engine.parent, rng.choice(patterns)), rng.choice((0.0, rng.uniform(0, 0.03)))


def what_it_computes(engine: Path) -> Outputs:
    """Load as a user would (digests are verified) and run."""
    return infopt.load(engine, threads=1)(image=IMAGE)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two models that can be told apart by what they compute."""
    import onnx

    directory = tmp_path_factory.mktemp("models")
    model = onnx.ModelProto.FromString(seeds.convolutions().model)
    old, new = directory / "old.onnx", directory / "new.onnx"
    onnx.save(model, old)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(5, 100, np.float32), "bias"))
    onnx.save(model, new)
    return old, new


@pytest.mark.parametrize(
    "kills", [5, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_a_killed_run_leaves_the_old_engine_or_none(
    kills: int, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    old, new = sources
    good = tmp_path / "good"
    seconds = finish(old, good)
    of_old = what_it_computes(good)
    finish(new, tmp_path / "newer")
    of_new = what_it_computes(tmp_path / "newer")
    assert not np.allclose(of_old["scores"], of_new["scores"])

    rng = random.Random(kills)
    killed = 0
    for attempt in range(kills * 4):
        room = tmp_path / str(attempt)
        room.mkdir()
        engine = room / "engine"
        replaces = rng.random() < 0.5
        if replaces:
            shutil.copytree(good, engine)
        moment, delay = moment_of(rng, seconds, engine)
        if not kill_when(start(new, engine), moment, delay):
            continue  # it had ended before: nothing was tried
        killed += 1
        if engine.exists():
            found = what_it_computes(engine)["scores"]
            is_new = np.allclose(found, of_new["scores"], rtol=1e-4)
            is_old = replaces and np.allclose(found, of_old["scores"], rtol=1e-4)
            assert is_new or is_old
        if killed == kills:
            break
        shutil.rmtree(room)
    assert killed == kills

    # The next run is not in the way of what the last killed one left, and clears it.
    finish(new, engine)
    assert np.allclose(what_it_computes(engine)["scores"], of_new["scores"], rtol=1e-4)
    assert [entry.name for entry in room.iterdir()] == ["engine"]
