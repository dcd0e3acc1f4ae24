import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from infopt.measure.memory import peak_rss, run_child

MIB = 2**20


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def test_the_peak_stays_after_the_memory_is_given_back() -> None:
    before = psutil.Process().memory_info().rss
    held = np.ones(256 * MIB // 8)
    del held
    assert peak_rss() > before + 250 * MIB
    assert psutil.Process().memory_info().rss < before + 50 * MIB


def test_a_child_reports_its_own_memory_and_not_its_parents() -> None:
    held = np.ones(200 * MIB // 8)  # makes this process large while the child starts
    small = run_child(python("pass"))
    large = run_child(python(f"x = b'x' * {100 * MIB}"))
    assert held.size
    assert small.peak_rss < 100 * MIB
    assert 100 * MIB < large.peak_rss < 180 * MIB


def test_a_child_s_output_and_exit_code() -> None:
    run = run_child(python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert (run.returncode, run.stdout, run.stderr) == (3, "out\n", "err\n")
    assert run.seconds > 0
    assert json.loads(json.dumps(run.as_dict()))["returncode"] == 3


def test_a_child_that_is_killed_reports_its_signal() -> None:
    run = run_child(python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))
    assert run.returncode == -signal.SIGKILL


def test_a_child_that_hangs_is_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with pytest.raises(TimeoutError, match="did not end in 2 s"):
        run_child(python(code), timeout=2)
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 10  # a killed process takes a moment to be gone
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_a_program_that_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        run_child(["no-such-program"])


def test_directory_and_environment(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ['WORD'])"
    run = run_child(python(code), cwd=tmp_path, env={**os.environ, "WORD": "hello"})
    assert run.stdout.split() == [str(tmp_path), "hello"]
