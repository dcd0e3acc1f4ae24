"""The folders of a model's run, and the processes that work in them."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sidebyside import job as files
from benchmarks.sidebyside.client import WORKER, Client, ended
from benchmarks.sidebyside.environments import Environment
from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.peers import Peer
from benchmarks.subjects import Subject
from infopt.measure.memory import run_child

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One model at one size and batch size."""

    batch: int
    size: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.batch}x{self.size}"


@dataclasses.dataclass(frozen=True)
class Made:
    """What optimizing took, and what it made."""

    seconds: float = 0.0
    """Of the processor: several peers optimize at once."""
    peak_rss: int = 0
    size: int = 0
    error: str = ""


class Workplace:
    """A folder with inputs of a model in files, and one for each peer."""

    def __init__(
        self,
        subject: Subject,
        cells: Sequence[Cell],
        directory: Path,
        cache: Path,
        environments: Mapping[str, Environment],
        threads: int,
    ) -> None:
        self.subject, self.cells, self.threads = subject, tuple(cells), threads
        self.directory, self.environments = directory.resolve(), environments
        shutil.rmtree(directory, ignore_errors=True)
        self.model = subject.file(cache).resolve()
        self._prepare()

    def _prepare(self) -> None:
        """Write all inputs, in the order and of the names of the model."""
        for number, feeds in enumerate(self.subject.samples()):
            files.write(self.directory / "calibration" / f"{number:04}.npz", feeds)
        for number, feeds in enumerate(self.subject.unseen()):
            files.write(self.directory / "unseen" / f"{number:04}.npz", feeds)
        for cell in self.cells:
            files.write(self.feeds(cell), self.subject.feeds(cell.batch, cell.size, 0))
        huggingface = self.directory / "huggingface"
        huggingface.mkdir()
        (huggingface / "model.onnx").symlink_to(self.model)
        if self.subject.config is not None:
            (huggingface / "config.json").write_text(json.dumps(dict(self.subject.config)))

    def feeds(self, cell: Cell) -> Path:
        """The file of a cell's inputs."""
        return self.directory / "cells" / f"{cell.name}.npz"

    def unseen(self) -> list[Path]:
        """The files of the inputs that peers are judged on."""
        return sorted((self.directory / "unseen").iterdir())

    def of(self, peer: Peer) -> Path:
        """A peer's own folder."""
        return self.directory / peer.recipe

    def remove(self) -> None:
        """Give the space back: what peers write is as large as the model, twenty times."""
        shutil.rmtree(self.directory)

    def optimize(self, peer: Peer, patience: float) -> Made:
        """Let a peer optimize the model, in a process of its own."""
        environment = self.environments[peer.environment]
        if environment.error:
            return Made(error=f"no environment: {environment.error}")
        made = self.of(peer) / "made"
        made.mkdir(parents=True)
        self._job(peer).write(self.of(peer) / "job.json")
        try:
            run = run_child(
                self._command(peer), timeout=patience, cwd=ROOT, env=self._variables(peer)
            )
        except TimeoutError:
            return Made(error=f"did not end in {patience:.0f} s")
        (self.of(peer) / "optimize.log").write_text(run.stderr)
        if not run.stdout:
            return Made(peak_rss=run.peak_rss, error=ended(run.returncode))
        said: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        if "error" in said:
            return Made(peak_rss=run.peak_rss, error=said["error"])
        return Made(said["seconds"], run.peak_rss, said["bytes"])

    def start(self, peer: Peer) -> Client:
        """A worker that has loaded nothing yet."""
        log = self.of(peer) / "serve.log"
        return Client([*self._command(peer), "serve"], self._variables(peer), log, ROOT)

    def _job(self, peer: Peer) -> Job:
        return Job(
            subject=self.subject.name,
            model=self.model,
            directory=self.of(peer) / "made",
            threads=self.threads,
            kind=self.subject.kind,
            huggingface=self.directory / "huggingface",
            calibration=self.directory / "calibration",
            shapes=tuple(self.feeds(cell) for cell in self.cells),
        )

    def _command(self, peer: Peer) -> list[str]:
        python = self.environments[peer.environment].python
        return [str(python), "-m", WORKER, peer.recipe, str(self.of(peer) / "job.json")]

    def _variables(self, peer: Peer) -> dict[str, str]:
        """The caller's variables; no recipe reaches for the network or reports home."""
        settings = {
            "OMP_NUM_THREADS": str(self.threads),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONWARNINGS": "ignore",
        }
        variables = {**os.environ, **settings}
        if peer.environment:
            variables.pop("PYTHONPATH", None)
        return variables
