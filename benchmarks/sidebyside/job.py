"""What a recipe is given. Peers' environments import this: the standard library and numpy only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], list[np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Job:
    """A model and the folder for what a peer makes of it."""

    subject: str
    """Its name in ``benchmarks.subjects``, where its torch module is found."""
    model: Path
    """The ONNX file."""
    directory: Path
    """The peer's own folder."""
    threads: int
    kind: str
    """What ONNX Runtime's transformer optimizer is told; empty where there is no transformer."""
    huggingface: Path
    """A folder with ``model.onnx`` and, where the model has one, ``config.json``."""
    calibration: Path
    """A folder of inputs to calibrate on."""
    shapes: tuple[Path, ...]
    """Files of inputs, one for each shape that will be run."""

    @classmethod
    def of(
        cls,
        model: Path,
        directory: Path,
        *,
        threads: int,
        kind: str = "",
        samples: Iterable[Feeds] = (),
    ) -> Job:
        """A job of a file alone, for a benchmark that runs a recipe in its own process."""
        directory.mkdir(parents=True, exist_ok=True)
        calibration = directory / "calibration"
        for number, feeds in enumerate(samples):
            write(calibration / f"{number:04}.npz", feeds)
        return cls("", model, directory, threads, kind, directory, calibration, ())

    def samples(self) -> Iterator[Feeds]:
        """The inputs to calibrate on."""
        return (read(file) for file in sorted(self.calibration.iterdir()))

    def write(self, file: Path) -> None:
        """Keep it as JSON."""
        file.write_text(json.dumps(dataclasses.asdict(self), default=str))

    @classmethod
    def read(cls, file: Path) -> Job:
        """What :meth:`write` wrote."""
        found: dict[str, Any] = json.loads(file.read_text())
        for name in ("model", "directory", "huggingface", "calibration"):
            found[name] = Path(found[name])
        found["shapes"] = tuple(Path(name) for name in found["shapes"])
        return cls(**found)


def write(file: Path, arrays: Feeds) -> Path:
    """Arrays by name, in their order, as an npz file that holds no Python objects."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]  # of its option allow_pickle
    return file


def read(file: Path) -> Feeds:
    """What :func:`write` wrote."""
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
