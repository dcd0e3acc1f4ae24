"""A peer in a process of its own: ``python -m benchmarks.sidebyside.worker RECIPE JOB [serve]``.

Without ``serve`` it optimizes and prints what that took. With it, it loads what was optimized
and answers requests, a line of JSON each, until its input ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from benchmarks.sidebyside import job as files
from benchmarks.sidebyside.job import Feeds, Job, Run


def peak_rss() -> int:
    """The most memory that this process has held at once, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel does not say how much memory a process has held")


def processor_seconds() -> float:
    """What this process and all that it has started have spent on the processor."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    alive = sum(map(_spent, _started(os.getpid())))
    return time.process_time() + ended.ru_utime + ended.ru_stime + alive


def _started(process: int) -> Iterator[int]:
    """The processes that ``process`` has started and that still run, and theirs."""
    for file in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has just ended
            for child in map(int, file.read_text().split()):
                yield child
                yield from _started(child)


def _spent(process: int) -> float:
    """Seconds of a process, and of those of its children that have ended."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return 0.0


class Server:
    """Answers requests about one loaded model."""

    def __init__(self, recipe: Any, job: Job) -> None:
        self.recipe, self.job = recipe, job
        self.run: Run | None = None
        self.feeds: Feeds = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """One request → what it asks for, or what went wrong."""
        try:
            answer: dict[str, Any] = getattr(self, f"_{request['do']}")(request)
        except Exception as error:  # a peer's error is a result
            return {"error": describe(error)}
        return answer

    def _load(self, request: Mapping[str, Any]) -> dict[str, Any]:
        del request
        self.run = self.recipe.load(self.job)
        gc.collect()
        gc.freeze()
        return {}

    def _outputs(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run once and keep the outputs in a file."""
        outputs = self._loaded(files.read(Path(request["feeds"])))
        named = {f"output{index}": array for index, array in enumerate(outputs)}
        files.write(Path(request["into"]), named)
        return {"peak_rss": peak_rss()}

    def _bind(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self.feeds = files.read(Path(request["feeds"]))
        return {}

    def _time(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run ``lead`` times, then ``count`` times by the clock; seconds for each call."""
        for _ in range(request["lead"]):
            self._loaded(self.feeds)
        gc.disable()
        start = time.perf_counter()
        for _ in range(request["count"]):
            self._loaded(self.feeds)
        seconds = (time.perf_counter() - start) / request["count"]
        gc.enable()
        return {"seconds": seconds, "peak_rss": peak_rss()}

    @property
    def _loaded(self) -> Run:
        if self.run is None:
            raise RuntimeError("nothing is loaded")
        return self.run


def describe(error: BaseException) -> str:
    """An error in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _written(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())


def _pipe() -> TextIO:
    """Standard output for answers alone; what libraries print goes to standard error."""
    own = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return own


def main(name: str, file: str, serve: bool) -> None:
    out = _pipe()
    job = Job.read(Path(file))
    try:
        recipe = importlib.import_module(f"benchmarks.sidebyside.recipes.{name}")
    except Exception as error:
        print(json.dumps({"error": describe(error)}), file=out)
        return
    if serve:
        server = Server(recipe, job)
        for line in sys.stdin:
            print(json.dumps(server.answer(json.loads(line))), file=out)
        return
    try:
        if hasattr(recipe, "prepare"):
            recipe.prepare(job)
        start = processor_seconds()
        size = recipe.optimize(job)
        seconds = processor_seconds() - start
    except Exception as error:
        print(json.dumps({"error": describe(error)}), file=out)
        return
    print(json.dumps({"seconds": seconds, "bytes": size or _written(job.directory)}), file=out)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:] == ["serve"])
