"""What only a real process shows: pipes, signals, terminals, full disks."""

from __future__ import annotations

import json
import os
import pty
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from tests.cli.support import INFOPT, no_leftovers, perceptron

NOISY = """
import os, warnings
import numpy as np

def samples():
    print("a line that Python printed")
    os.write(1, b"a line that C printed\\n")
    warnings.warn("a warning")
    yield {"x": np.ones((2, 8), np.float32)}
"""


def _run(
    *arguments: object, env: dict[str, str], cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*INFOPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=env,
        cwd=cwd,
    )


def test_stdout_carries_the_document_alone(
    model: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "noisy.py").write_text(NOISY)
    arguments = ("optimize", model, "-o", "out", "--data", "noisy:samples", "--no-bench")
    run = _run(*arguments, "--json", env=environment, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    evidence = json.loads(run.stdout)["manifest"]["evidence"]
    assert evidence["equivalence"]["samples"] == ["noisy:samples[0]: x=2×8"]
    assert "a line that Python printed" in run.stderr
    assert "a line that C printed" in run.stderr
    assert "a warning" not in run.stderr


def test_a_library_that_logs_is_not_heard(tmp_path: Path, environment: dict[str, str]) -> None:
    proto = perceptron()
    proto.graph.node[3].input[0] = "nowhere"
    path = tmp_path / "undefined.onnx"
    path.write_bytes(proto.SerializeToString())
    run = _run("optimize", path, "-o", tmp_path / "out", env=environment)
    assert run.returncode == 3
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("module", ["onnx", "onnxruntime", "onnx_ir", "numpy"])
def test_the_doctor_comes_where_a_package_is_broken(
    environment: dict[str, str], module: str
) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from infopt.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code, "doctor", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )
    assert run.returncode == 1, run.stderr
    failed = [check for check in json.loads(run.stdout)["checks"] if check["level"] == "fail"]
    assert any(module in check["found"] for check in failed), failed


def test_a_reader_that_leaves_early(environment: dict[str, str]) -> None:
    with subprocess.Popen(
        [*INFOPT, "doctor", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        stderr = child.stderr.read()
        assert child.wait(timeout=60) in (0, 1)  # what the doctor found, not the pipe
    assert stderr == b""


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed(
    model: Path, tmp_path: Path, environment: dict[str, str], closed: str
) -> None:
    call = f"'{sys.executable}' -m infopt optimize '{model}' -o '{tmp_path / 'out'}' --no-bench"
    run = subprocess.run(
        ["sh", "-c", f"{call} {closed}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert (tmp_path / "out" / "manifest.json").exists()


def test_a_full_disk_behind_stdout(environment: dict[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        run = subprocess.run(
            [*INFOPT, "passes"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
            env=environment,
        )
    assert run.returncode == 3
    assert run.stderr.startswith("error: No space left on device")
    assert "Traceback" not in run.stderr


def test_a_full_disk_under_the_engine(tmp_path: Path, environment: dict[str, str]) -> None:
    source = tmp_path / "in" / "wide.onnx"
    source.parent.mkdir()
    onnx.save(perceptron(hidden=20_000), source)  # 960 kB of weights
    output = tmp_path / "out" / "wide.engine"
    output.parent.mkdir()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    run = subprocess.run(
        [*INFOPT, "optimize", str(source), "-o", str(output), "--no-verify", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
        preexec_fn=limit,
    )
    assert run.returncode == 3, run.stderr
    assert json.loads(run.stdout)["error"]["type"] == "StorageError"
    assert "is full" in run.stderr
    assert "Traceback" not in run.stderr
    no_leftovers(output.parent)


@pytest.mark.parametrize("after", ["Imported", "Compiled", "samples, on"])
def test_ctrl_c(tmp_path: Path, environment: dict[str, str], after: str) -> None:
    source = tmp_path / "model.onnx"
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> '
        "g (float[n,m] x) => (float[n,m] y) { y = Relu(x) }"
    )
    onnx.save(onnx.parser.parse_model(text), source)
    output = tmp_path / "out" / "model.engine"
    output.parent.mkdir()
    with subprocess.Popen(
        [*INFOPT, "optimize", str(source), "-o", str(output)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        assert child.stderr is not None
        assert child.stdout is not None
        seen = ""
        while after not in seen:
            line = child.stderr.readline()
            assert line, seen
            seen += line
        child.send_signal(signal.SIGINT)  # the measurement alone takes three seconds more
        seen += child.stderr.read()
        assert child.wait(timeout=60) == 3, seen
        assert child.stdout.read() == ""
    assert "error: interrupted" in seen
    assert "Traceback" not in seen
    no_leftovers(output.parent)


def test_ctrl_c_keeps_the_old_engine(
    tmp_path: Path, model: Path, engine: Path, environment: dict[str, str]
) -> None:
    before = (engine / "manifest.json").read_bytes()
    with subprocess.Popen(
        [*INFOPT, "optimize", str(model), "-o", str(engine)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as child:
        assert child.stderr is not None
        while "Compiled" not in child.stderr.readline():
            pass
        child.send_signal(signal.SIGINT)
        child.stderr.read()
        assert child.wait(timeout=60) == 3
    assert (engine / "manifest.json").read_bytes() == before
    no_leftovers(tmp_path, model.name, engine.name)


def _in_terminal(arguments: list[str], env: dict[str, str]) -> tuple[int, str]:
    """Run with all streams on a terminal; return the exit code and what it showed."""
    control, terminal = pty.openpty()
    with subprocess.Popen(
        [*INFOPT, *arguments],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=env | {"TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"},
    ) as child:
        os.close(terminal)
        shown = b""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if not select.select([control], [], [], 1)[0]:
                continue
            try:
                data = os.read(control, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not data:
                break
            shown += data
        code = child.wait(timeout=60)
    os.close(control)
    return code, shown.decode()


def test_a_terminal_sees_it_move(model: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    colourful = {key: value for key, value in environment.items() if key != "NO_COLOR"}
    arguments = ["optimize", str(model), "-o", str(tmp_path / "out")]
    code, shown = _in_terminal(arguments, colourful)
    assert code == 0
    assert "Measuring" in shown  # the moving line …
    assert "Measured" in shown  # … and what it leaves behind
    assert "\x1b[1;32m" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0  # the cursor is back


def test_no_color_means_none(model: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    code, shown = _in_terminal(
        ["optimize", str(model), "-o", str(tmp_path / "out"), "--no-bench"], environment
    )
    assert code == 0
    assert "Imported" in shown
    for colour in ("\x1b[32m", "\x1b[1;32m", "\x1b[31m", "\x1b[1;31m"):
        assert colour not in shown


def test_a_terminal_that_knows_no_arrows(
    model: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    plain = environment | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    run = _run("optimize", model, "-o", tmp_path / "out", "--no-bench", env=plain)
    assert run.returncode == 0, run.stderr
    assert "7 ? 3 nodes" in run.stdout


def test_as_a_module_it_has_the_same_name() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "infopt", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stdout.startswith("Usage: infopt [OPTIONS] COMMAND")
