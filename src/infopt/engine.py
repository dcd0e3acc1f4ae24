"""Engine: a compiled model as a directory with a manifest, written whole or not at all.

The directory::

    manifest.json   what it is, what it was made from, digests of every other file, evidence
    model.onnx      the payload (for TensorRT: what the plan was built from)
    model.data      its weights
    engine.plan     native code, where the target has it: TensorRT
    engine.json     what the plan was built with, and for which sizes and GPUs

``manifest.json`` is written last, inside a temporary neighbour that is then renamed. Loading
reads the manifest first and verifies every digest before a runtime sees a byte.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from infopt.errors import EngineError, OutputError, StorageError
from infopt.ir.digest import file_digest

MANIFEST = "manifest.json"
PLAN_FILE = "engine.plan"
"""Native code: it is never run before its digest has been compared."""
SCHEMA_VERSION = 1
_FORMAT = "infopt-engine"
_MAX_MANIFEST = 64 << 20  # a manifest is text of some kilobytes; more is hostile


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Name, type and shape of an input or output."""

    name: str
    dtype: str
    """The name of the ONNX element type in lower case, as in ``float`` or ``int64``."""
    shape: tuple[int | str | None, ...] | None
    """A number, a dimension's name, or ``None`` where nothing is known."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """All that is known of an engine."""

    target: str
    source: Mapping[str, Any]
    """What it was made from: kind, name, digest, opset, facts of the importer."""
    model_digest: str
    """Content digest of the optimized model (see :mod:`infopt.ir.digest`)."""
    precision: str
    pipeline: str
    """The text form of the pipeline that ran."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    versions: Mapping[str, str]
    """infopt, Python and the libraries that took part."""
    hardware: Mapping[str, Any]
    passes: tuple[Mapping[str, Any], ...]
    """The trace: what each pass did, in how long, and what it refused."""
    evidence: Mapping[str, Any]
    """What was compared and measured, or ``"not measured"``."""
    sizes: Mapping[str, int]
    """Bytes of weights and nodes, before and after."""
    operators: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    """Operator → how many of its nodes there were ``before`` and ``after``."""
    fusions: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    """Standard operator → how many were ``found`` after raising, how many of them were ``raised``,
    how many near matches were ``missed``, and how many were ``expected`` where that was said."""
    build: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """What native code was built with, and for which sizes and GPUs; empty where there is none."""
    files: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    """File name → ``bytes`` and ``sha256``."""

    def document(self) -> dict[str, Any]:
        """What ``manifest.json`` holds, with its seal: the digest of all the rest."""
        document = {
            "format": _FORMAT,
            "schema_version": SCHEMA_VERSION,
            **dataclasses.asdict(self),
        }
        # What is sealed is what a reader will see: plain JSON, whatever it was before.
        document = json.loads(json.dumps(document, ensure_ascii=False, default=str))
        return {**document, "seal": _seal(document)}


@dataclasses.dataclass(frozen=True)
class Engine:
    """An engine on disk, and its manifest."""

    path: Path
    manifest: Manifest
    seal: str = ""
    """The digest of what the manifest says; empty for engines that are older than these."""

    def file(self, name: str) -> Path:
        """The path of one of the engine's files."""
        return self.path / name

    @property
    def nbytes(self) -> int:
        """Size of all files, in bytes, the manifest not counted."""
        return sum(int(entry["bytes"]) for entry in self.manifest.files.values())


@dataclasses.dataclass(frozen=True)
class Staging:
    """Where an engine is being built: a temporary neighbour of its final place."""

    payload: Path
    """The directory that becomes the engine."""
    scratch: Path
    """Room for intermediate files on the same disk."""


@contextlib.contextmanager
def staging(output: Path) -> Iterator[Staging]:
    """Room to build an engine beside ``output``; gone afterwards, whatever happens.

    Raises:
        OutputError: ``output`` holds something that is not an engine.
        StorageError: Nothing can be written there.
    """
    check_output(output)
    with room_beside(output) as root:
        rooms = Staging(root / "engine", root / "scratch")
        rooms.payload.mkdir()
        rooms.scratch.mkdir()
        yield rooms


@contextlib.contextmanager
def room_beside(output: Path) -> Iterator[Path]:
    """An empty directory on the disk of ``output``; gone afterwards, whatever happens.

    What a killed process left behind is cleared away first.

    Raises:
        StorageError: Nothing can be written there.
    """
    parent = output.resolve().parent
    with _storage(parent):
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise StorageError(f"{parent} is not a directory; choose another place") from None
        _clear_leftovers(parent, output.name)
        root = Path(
            tempfile.mkdtemp(prefix=f".{output.name}.{os.getpid()}.", suffix=".infopt", dir=parent)
        )
        try:
            yield root
        finally:
            _remove(root)


def publish(rooms: Staging, output: Path, manifest: Manifest) -> Engine:
    """Turn a staged payload into the engine at ``output``.

    The last step is one rename: whoever looks, even after a ``kill -9``, sees the old engine,
    none, or the new one, never a mixture.
    """
    entries = {
        path.name: {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in sorted(rooms.payload.iterdir())
    }
    manifest = dataclasses.replace(manifest, files=entries)
    document = manifest.document()
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    (rooms.payload / MANIFEST).write_text(text, encoding="utf-8")
    check_output(output)
    if output.exists():
        output.rename(rooms.scratch / "replaced")
    rooms.payload.rename(output)
    return Engine(output, manifest, document["seal"])


def check_output(output: Path) -> None:
    """Make sure that ``output`` may be written.

    Raises:
        OutputError: Something is there that is not an engine of ours.
    """
    if not output.exists() and not output.is_symlink():
        return
    if output.is_dir() and not any(output.iterdir()):
        return
    if not output.is_dir() or not is_engine(output):
        raise OutputError(
            f"{output} already exists and is not an engine; infopt does not overwrite it. "
            "Choose another directory with -o, or remove it"
        )


def is_engine(path: Path) -> bool:
    """Whether ``path`` looks like an engine directory: its manifest says so."""
    try:
        with (path / MANIFEST).open("rb") as file:
            return f'"format": "{_FORMAT}"'.encode() in file.read(256)
    except OSError:
        return False


def open_engine(path: Path, *, verify: bool = True) -> Engine:
    """Read the manifest of an engine and verify the digest of each of its files.

    Args:
        path: The engine's directory.
        verify: Whether to read every file and compare digests. Names and sizes, the seal of the
            manifest and the digest of native code are compared in any case.

    Raises:
        EngineError: The directory is no engine, of another schema version, or damaged.
    """
    manifest, seal, true_seal = _read_manifest(path)
    for name, entry in manifest.files.items():
        file = path / name
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name) or file.is_symlink():
            raise EngineError(f"{path}: {name!r} in its manifest is no plain file; do not use it")
        if not file.is_file():
            raise EngineError(f"{path} is incomplete: {name} is missing; build it again")
        if file.stat().st_size != entry["bytes"] or (
            (verify or name == PLAN_FILE) and file_digest(file) != entry["sha256"]
        ):
            raise EngineError(
                f"{path} is damaged: {name} is not the file that was built; build it again"
            )
    for extra in sorted({entry.name for entry in path.iterdir()} - {MANIFEST, *manifest.files}):
        if extra.startswith(("model.", "engine.")):
            raise EngineError(f"{path} is damaged: {extra} is not in its manifest; build it again")
    # Engines that are older have no seal, and no native code either.
    if seal != true_seal and (seal or PLAN_FILE in manifest.files):
        raise EngineError(
            f"{path}: its manifest is not the one that was written: it was edited, or its seal was "
            "taken off; build the engine again"
        )
    return Engine(path, manifest, seal)


def _read_manifest(path: Path) -> tuple[Manifest, str, str]:
    """The manifest, its seal (empty if it has none), and what the seal ought to be."""
    file = path / MANIFEST
    if not path.is_dir():
        raise EngineError(f"there is no engine directory {path}")
    if not file.is_file():
        raise EngineError(f"{path} is not an engine: it has no {MANIFEST}")
    try:
        if file.stat().st_size > _MAX_MANIFEST:
            raise EngineError(f"{file} is larger than any manifest; do not use it")
        document = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise EngineError(f"{file} is not valid JSON ({error}); build the engine again") from None
    if not isinstance(document, dict) or document.pop("format", None) != _FORMAT:
        raise EngineError(f"{file} is not the manifest of an infopt engine")
    version = document.pop("schema_version", None)
    if version != SCHEMA_VERSION:
        raise EngineError(
            f"{path} has schema version {version}, this infopt reads {SCHEMA_VERSION}; "
            "build the engine again, or use the infopt that built it"
        )
    seal = str(document.pop("seal", ""))
    try:
        true_seal = _seal({"format": _FORMAT, "schema_version": version, **document})
        return _manifest(document), seal, true_seal
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise EngineError(f"{file} is malformed ({error}); build the engine again") from None


def _seal(document: Mapping[str, Any]) -> str:
    """The digest of what a manifest says, however it is laid out. It shows edits by hand."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def _manifest(document: dict[str, Any]) -> Manifest:
    def specs(entries: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(
                str(e["name"]),
                str(e["dtype"]),
                None if e["shape"] is None else tuple(e["shape"]),
            )
            for e in entries
        )

    for name in ("fusions", "build", "operators"):  # engines that are older have none
        document.setdefault(name, {})
    fields = {field.name: document[field.name] for field in dataclasses.fields(Manifest)}
    for name in (
        "source",
        "versions",
        "hardware",
        "evidence",
        "sizes",
        "operators",
        "fusions",
        "build",
        "files",
    ):
        if not isinstance(fields[name], dict):
            raise TypeError(f"{name} is no object")
    for counts in fields["fusions"].values():
        if not {"found", "raised", "missed"} <= set(counts):
            raise TypeError("an entry of fusions lacks found, raised or missed")
        if not all(isinstance(number, int) for number in counts.values()):
            raise TypeError("a count of fusions is no integer")
    for counts in fields["operators"].values():
        if not all(isinstance(counts[when], int) for when in ("before", "after")):
            raise TypeError("a count of operators is no integer")
    for entry in fields["files"].values():
        if not isinstance(entry["bytes"], int) or not isinstance(entry["sha256"], str):
            raise TypeError("an entry of files has no bytes or sha256")
    fields["inputs"] = specs(fields["inputs"])
    fields["outputs"] = specs(fields["outputs"])
    fields["passes"] = tuple(fields["passes"])
    for name in ("target", "model_digest", "precision", "pipeline"):
        if not isinstance(fields[name], str):
            raise TypeError(f"{name} is no string")
    return Manifest(**fields)


def _clear_leftovers(parent: Path, name: str) -> None:
    """Remove what killed processes left: staging directories, and engines they had set aside."""
    pattern = re.compile(re.escape(f".{name}.") + r"(\d+)\..*\.infopt")
    for entry in parent.iterdir():
        match = pattern.fullmatch(entry.name)
        if match and not _alive(int(match[1])):
            shutil.rmtree(entry, ignore_errors=True)


def _remove(directory: Path) -> None:
    """Remove a directory to the end, even if Ctrl-C is pressed meanwhile."""
    try:
        shutil.rmtree(directory, ignore_errors=True)
    except KeyboardInterrupt:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _storage(parent: Path) -> Iterator[None]:
    """Turn failures of the file system into a message."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(
                f"the disk of {parent} is full; free some space, or choose another place with -o"
            ) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise StorageError(
                f"{parent} is not writable ({error.strerror}); choose another place with -o"
            ) from None
        raise
