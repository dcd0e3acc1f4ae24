"""What can be compared and timed: engine directories, and whatever can be imported."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infopt import engine as engines
from infopt import provenance, signatures
from infopt.backends import backend_for
from infopt.backends.base import Backend, RunOptions, Session
from infopt.engine import Engine
from infopt.importers import Imported, import_model
from infopt.ir import files
from infopt.measure.throughput import Throughput
from infopt.measure.timing import Measurement
from infopt.signatures import KeyFile
from infopt.target import DEFAULT_TARGET, parse_target


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a subject needs besides the time of a call."""

    bytes: int
    """On disk."""
    built: float | None = None
    """Seconds that it took to build, verification aside, as far as an engine knows."""
    throughput: Throughput | None = None
    """On the first sample, in as many requests at a time as was asked for."""
    cost: float | None = None
    """Of a million requests, in the currency of the price."""
    cold_start: float | None = None
    """Seconds from the start of a process to its first answer, the median of some."""
    peak_rss: int | None = None
    """Bytes of memory that such a process needs."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        per_second = None if self.throughput is None else self.throughput.per_second
        return {**dataclasses.asdict(self), "requests_per_second": per_second}


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """Subjects timed in one run, on each of some samples."""

    subjects: tuple[str, ...]
    """What was timed; the first is the baseline of all ratios."""
    runs: tuple[tuple[str, Measurement], ...]
    """The shapes of a sample, and what was measured on it."""
    needs: tuple[Needs, ...] = ()
    """What each of the subjects needs."""

    def as_dict(self) -> dict[str, Any]:
        """Return all figures and the conditions, ready for JSON."""
        return {
            "subjects": self.subjects,
            "runs": [timed(sample, found) for sample, found in self.runs],
            "needs": {
                name: needs.as_dict()
                for name, needs in zip(self.subjects, self.needs, strict=False)
            },
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }


def timed(sample: str, found: Measurement) -> dict[str, Any]:
    """A measurement, ready for JSON: its figures, and the series that they are of."""
    series = {
        # Four digits: what comes after is noise.
        name: [float(f"{seconds:.4g}") for seconds in samples]
        for name, samples in found.samples.items()
    }
    return {"sample": sample, **found.as_dict(), "series": series}


def load_engine(
    path: Path, options: RunOptions, *, verify: bool = True, trusted: Sequence[KeyFile] = ()
) -> Session:
    """A session for an engine directory.

    Raises:
        EngineError: The directory is no engine, damaged, or not signed by whom it has to be.
        UnavailableError: The runtime or the device is not there.
    """
    engine = _opened(path, trusted, verify=verify)
    return backend_for(parse_target(engine.manifest.target)).load(engine.path, options)


def open_session(
    subject: object, room: Path, options: RunOptions, trusted: Sequence[KeyFile] = ()
) -> Session:
    """A session for an engine directory, or for a model on the runtime's defaults.

    Args:
        subject: One of both, or a session.
        room: A directory for the model, where it is in no file; it need not exist.
        options: How to run.
        trusted: Files with public keys; if there are any, one of them has to have signed an engine.
    """
    if isinstance(subject, Session):
        return subject
    if _is_engine(subject):
        return load_engine(Path(str(subject)), options, trusted=trusted)
    return _session(import_model(subject), room, options)


def opened(
    subject: object, room: Path, options: RunOptions, trusted: Sequence[KeyFile] = ()
) -> tuple[Session, Imported, Backend]:
    """A session as of :func:`open_session`, the model that it runs, and the backend of its target.

    An engine is opened, and with it all of its files read and verified, once.
    """
    if _is_engine(subject):
        engine = _opened(Path(str(subject)), trusted)
        backend = backend_for(parse_target(engine.manifest.target))
        imported = import_model(engine.file(files.MODEL_FILE))
        return backend.load(engine.path, options), imported, backend
    imported = import_model(subject)
    return _session(imported, room, options), imported, backend_for(parse_target(DEFAULT_TARGET))


def _session(imported: Imported, room: Path, options: RunOptions) -> Session:
    backend = backend_for(parse_target(DEFAULT_TARGET))
    file = imported.path
    room.mkdir(parents=True, exist_ok=True)
    if file is None:
        files.write_onnx(imported.model, room)
        return backend.load(room, options)
    return backend.open_model(file, options)


def size_on_disk(subject: object) -> int:
    """Bytes of an engine without its manifest, of a file, or of all files of a directory."""
    if not isinstance(subject, (str, os.PathLike)):
        return 0
    path = Path(subject)
    if _is_engine(path):
        return engines.open_engine(path, verify=False).nbytes
    if path.is_dir():
        return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    return path.stat().st_size if path.exists() else 0


def model_file(subject: object, trusted: Sequence[KeyFile] = ()) -> object:
    """The model inside an engine directory; anything else as it is."""
    if _is_engine(subject):
        return _opened(Path(str(subject)), trusted).file(files.MODEL_FILE)
    return subject


def _opened(path: Path, trusted: Sequence[KeyFile], *, verify: bool = True) -> Engine:
    engine = engines.open_engine(path, verify=verify)
    if trusted:
        signatures.require(engine, trusted)
    return engine


def _is_engine(subject: object) -> bool:
    return isinstance(subject, (str, os.PathLike)) and engines.is_engine(Path(subject))
