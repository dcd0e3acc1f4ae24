"""Builds a plan in a process of its own: what goes wrong in there costs one engine, no more."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from infopt.backends.tensorrt import timings
from infopt.backends.tensorrt.options import BuildOptions
from infopt.backends.tensorrt.profiles import Profile, as_facts
from infopt.errors import CompileError, UnavailableError

_WORKER = "infopt.backends.tensorrt.worker"
_LONGEST_LAST_WORDS = 400


@dataclasses.dataclass(frozen=True)
class Request:
    """What to build."""

    module: str
    """The Python module that builds: ``tensorrt`` or ``tensorrt_rtx``."""
    model: Path
    """An ONNX file."""
    plan: Path
    """The file to write."""
    capabilities: tuple[str, ...]
    """Of the GPUs to build for; empty for TensorRT's own choice."""
    profiles: tuple[Profile, ...]
    """The shapes of each input that is dynamic; if none is, one profile that is empty."""
    options: BuildOptions
    timings: Path | None
    """Where timings of earlier builds are, and those of this one go."""


@dataclasses.dataclass(frozen=True)
class Built:
    """What came of it."""

    version: str
    """Of TensorRT."""
    seconds: float
    network: Mapping[str, int]
    """Kind of layer and type of its first output → how many the network had before it was
    optimized."""
    warnings: tuple[str, ...]
    timing_cache: bool
    """Whether this TensorRT keeps timings."""


class RefusedError(CompileError):
    """TensorRT's parser does not take the model."""

    def __init__(self, complaints: list[dict[str, str]]) -> None:
        super().__init__(f"TensorRT does not take {len(complaints)} nodes of the model")
        self.complaints = complaints
        """One for each node: ``code``, ``node``, ``operator`` and ``text``."""


def build(request: Request, scratch: Path, progress: Callable[[str, int, int], None]) -> Built:
    """Build a plan, and wait for it.

    Args:
        request: What to build.
        scratch: Room for what is not to be kept.
        progress: Told the phase, how many of its steps are done, and how many there are.

    Raises:
        RefusedError: The parser does not take the model; it says all that it has against it.
        CompileError: The build failed, or its process died.
        UnavailableError: TensorRT does not load.
    """
    known = None if request.timings is None else timings.read(request.timings, scratch)
    learned = None if request.timings is None else scratch / "timings.new"
    message = {
        "parent": os.getpid(),
        "module": request.module,
        "model": str(request.model),
        "plan": str(request.plan),
        "capabilities": request.capabilities,
        "profiles": as_facts(request.profiles),
        "options": request.options.as_dict(),
        "cache_in": None if known is None else str(known),
        "cache_out": None if learned is None else str(learned),
    }
    last: dict[str, Any] = {}
    with _worker(message, scratch / "build.log") as (process, messages):
        for last in messages:
            if last["kind"] == "progress":
                progress(last["phase"], last["done"], last["total"])
        code = process.wait()
    match last.get("kind"):
        case "built" if code == 0:
            if request.timings is not None and learned is not None and learned.exists():
                timings.write(request.timings, learned.read_bytes())
            facts = {field.name: last[field.name] for field in dataclasses.fields(Built)}
            return Built(**facts | {"warnings": tuple(last["warnings"])})
        case "refused":
            raise RefusedError(last["complaints"])
        case "unavailable":
            raise UnavailableError(f"{last['message']}; reinstall it")
        case "failed":
            raise CompileError(f"TensorRT could not build the engine: {last['message']}")
        case _:
            raise CompileError(_last_words(code, scratch / "build.log"))


@contextlib.contextmanager
def _worker(
    message: Mapping[str, Any], log: Path
) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[dict[str, Any]]]]:
    """The process that builds, and what it says; gone afterwards, whatever happens."""
    reading, writing = os.pipe()
    # The same infopt as here, and nothing that happens to lie in the current directory.
    here = str(Path(__file__).parents[3])
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    with os.fdopen(reading, encoding="utf-8", errors="replace") as pipe, log.open("wb") as output:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", _WORKER, str(writing)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                pass_fds=(writing,),
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                start_new_session=True,  # Ctrl-C is for us, and we end it
            )
        finally:
            os.close(writing)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
                stdin.write(json.dumps(message).encode())
            yield process, (json.loads(line) for line in pipe if line.endswith("\n"))
        finally:
            process.kill()
            process.wait()


def _last_words(code: int, log: Path) -> str:
    """Why there is no plan, as far as can be told."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = f"; its last words: {lines[-1][:_LONGEST_LAST_WORDS]}" if lines else ""
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was killed ({signal.Signals(-code).name})"
    hint = " Was there enough memory?" if code == -signal.SIGKILL else ""
    return f"the process that builds with TensorRT {how}{said}; no engine was written.{hint}"
