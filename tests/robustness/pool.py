"""Worker processes that may crash or hang: the one who asked learns of it and goes on."""

from __future__ import annotations

import dataclasses
import faulthandler
import multiprocessing
import os
import resource
import shutil
import signal
import tempfile
import threading
import traceback
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from tests.robustness.mutations import case

LIMIT = 30.0
"""Seconds after which a case hangs."""
MEMORY = 6 << 30
"""Bytes of address space for a worker: what asks for more fails, as it would on a full machine."""
LONGEST_MESSAGE = 20_000


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one case."""

    number: int
    kind: str
    """``engine``, ``refused``, or a defect: ``bug``, ``crash``, ``hang``."""
    detail: str = ""

    @property
    def is_defect(self) -> bool:
        return self.kind not in ("engine", "refused")


def examine(number: int, directory: Path) -> Outcome:
    """Take case ``number`` through infopt, in this process."""
    import infopt
    from infopt.errors import InfoptError

    files, _ = case(number)
    source = directory / "model.onnx"
    source.write_bytes(files.model)
    for name, data in files.beside.items():
        (directory / name).write_bytes(data)
    before = sorted(os.listdir(directory))
    output = directory / "engine"
    try:
        infopt.optimize(source, output, measure=False, threads=1)
        infopt.load(output, threads=1)
    except InfoptError as error:
        message = str(error)
        if not message or len(message) > LONGEST_MESSAGE:
            return Outcome(number, "bug", f"message of {len(message)} characters: {message[:500]}")
        left = sorted(os.listdir(directory))
        if left != before:
            return Outcome(number, "bug", f"left behind: {left}")
        return Outcome(number, "refused", f"{type(error).__name__}: {message}")
    except BaseException:
        return Outcome(number, "bug", traceback.format_exc()[-3000:])
    return Outcome(number, "engine")


def _work(pipe: Connection, log: str) -> None:
    """A worker's life: numbers in, outcomes out."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)  # native libraries write there what they think of a model
    os.dup2(descriptor, 2)
    faulthandler.enable(descriptor)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A model that loops for ever shows the same in two seconds as in twenty.
    from infopt import witness

    witness.TIME_LIMIT = 2.0
    while (number := pipe.recv()) is not None:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
            faulthandler.dump_traceback_later(LIMIT - 1, file=descriptor)
            pipe.send(examine(number, Path(directory)))
            faulthandler.cancel_dump_traceback_later()


class _Worker:
    def __init__(self, log: Path) -> None:
        self._log = log
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, str(self._log)), daemon=True)
        self._process.start()
        other.close()

    def ask(self, number: int) -> Outcome:
        self._log.write_bytes(b"")
        try:
            self._pipe.send(number)
            if self._pipe.poll(LIMIT):
                outcome: Outcome = self._pipe.recv()
                return outcome
            kind, how = "hang", f"still working after {LIMIT:g} s"
        except (EOFError, ConnectionError):
            self._process.join()
            code = self._process.exitcode or 0
            kind, how = "crash", signal.Signals(-code).name if code < 0 else f"exit code {code}"
        self.stop()
        self._start()
        return Outcome(number, kind, f"{how}\n{self._log.read_text(errors='replace')[-3000:]}")

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()


def examine_all(numbers: Iterable[int], workers: int) -> Iterator[Outcome]:
    """The outcome of each case, in any order."""
    logs = Path(tempfile.mkdtemp(prefix="fuzz-logs-"))
    local = threading.local()
    started: list[_Worker] = []

    def ask(number: int) -> Outcome:
        if not hasattr(local, "worker"):
            local.worker = _Worker(logs / f"{threading.get_ident()}.log")
            started.append(local.worker)
        worker: _Worker = local.worker
        return worker.ask(number)

    try:
        with ThreadPoolExecutor(workers) as threads:
            yield from threads.map(ask, numbers)
    finally:
        for worker in started:
            worker.stop()
        shutil.rmtree(logs, ignore_errors=True)
