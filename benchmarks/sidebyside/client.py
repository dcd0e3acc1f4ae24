"""The other end of a worker's pipe."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

WORKER = "benchmarks.sidebyside.worker"


class PeerFailed(Exception):
    """A peer could not do what it was asked for; the message is what it said."""


class Client:
    """A worker that has been started, as a context; it runs only while it is asked for something.

    In between it is stopped (``SIGSTOP``): in some runtimes threads go on spinning for a while
    after a call, and would take the cores from whoever is timed next.
    """

    def __init__(
        self, command: list[str], environment: Mapping[str, str], log: Path, directory: Path
    ) -> None:
        self._buffer = b""
        self._gone = ""
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The worker's process."""
        return self._process.pid

    def ask(self, do: str, *, timeout: float, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            PeerFailed: The worker answered with an error, ended, or took longer than ``timeout``
                seconds; in the last case it is ended.
        """
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            raise PeerFailed(self._gone or "was ended")
        self._signal(signal.SIGCONT)
        request = json.dumps({"do": do, **arguments}, default=str) + "\n"
        with contextlib.suppress(BrokenPipeError):  # that it has ended is seen below
            self._process.stdin.write(request.encode())
            self._process.stdin.flush()
        line = self._line(timeout)
        self._signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerFailed(answer["error"])
        return answer

    def _line(self, timeout: float) -> bytes:
        assert self._process.stdout is not None
        end = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(max(0.0, end - time.monotonic())):
                    self._gone = f"did not answer in {timeout:.0f} s"
                    self.close()
                    raise PeerFailed(self._gone)
                found = os.read(self._process.stdout.fileno(), 1 << 16)
                if not found:
                    raise PeerFailed(ended(self._process.wait()))
                self._buffer += found
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def close(self) -> None:
        """End the worker and what it may have started."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    def _signal(self, which: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # that it has ended is seen elsewhere
            os.killpg(self._process.pid, which)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def ended(code: int) -> str:
    """Why a process is gone, in words."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
