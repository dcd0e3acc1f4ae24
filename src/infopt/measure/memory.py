"""Peak memory of this process, and of a child."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# A child's ru_maxrss starts at what its parent had when it was started (exec keeps the maximum
# of the memory it replaces). A small launcher in between gives it a small parent.
_LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
_, status, usage = os.wait4(os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ), 0)
seconds = time.perf_counter() - start
code = os.waitstatus_to_exitcode(status)
with open(sys.argv[1], "w") as file:
    json.dump({"seconds": seconds, "peak_rss": usage.ru_maxrss, "returncode": code}, file)
"""

_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes in one unit of ru_maxrss."""


@dataclasses.dataclass(frozen=True)
class ChildRun:
    """How a child process ran."""

    seconds: float
    """From its start to its end."""
    peak_rss: int
    """The most memory that it held at once, in bytes; memory-mapped files count where touched."""
    returncode: int
    """Its exit code, or minus the signal that ended it."""
    stdout: str
    stderr: str

    def as_dict(self) -> dict[str, float | int | str]:
        """Return the fields, ready for JSON."""
        return dataclasses.asdict(self)


def peak_rss() -> int:
    """The most memory that this process has held at once, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # not inherited from the parent, unlike ru_maxrss
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _UNIT


def run_child(
    command: Sequence[str],
    *,
    timeout: float | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> ChildRun:
    """Run ``command`` as a child process and report its time and peak memory.

    Args:
        command: The program and its arguments.
        timeout: Seconds after which the child is ended.
        cwd: Working directory; this process's own by default.
        env: Environment; this process's own by default.

    Raises:
        FileNotFoundError: There is no such program.
        TimeoutError: The child did not end in time.
    """
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.json"
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(report), *command]
        # A session of its own, so that a timeout reaches the child behind the launcher.
        with subprocess.Popen(
            launcher,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            cwd=cwd,
            env=env,
            start_new_session=True,
        ) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except BaseException as error:
                _end_group(process.pid)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise TimeoutError(f"{command[0]} did not end in {timeout:g} s") from None
                raise
        if not report.exists():
            raise FileNotFoundError(f"{command[0]} could not be started: {stderr.strip()[-200:]}")
        found = json.loads(report.read_text())
    return ChildRun(
        found["seconds"], found["peak_rss"] * _UNIT, found["returncode"], stdout, stderr
    )


def _end_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
