"""Timings of kernels, kept from build to build: one file for each kind of build.

A timing holds for one TensorRT, one kind of GPU and one driver; so these name the file. It begins
with the SHA-256 of the rest, and a file that is not whole is as good as none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

_DIGEST = 32


def path_of(*kind: str) -> Path:
    """The file for builds of one kind: TensorRT's version, the GPU, its driver, and flags."""
    room = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256("\0".join(kind).encode()).hexdigest()[:32]
    return room / "infopt" / "tensorrt" / f"{name}.timings"


def read(path: Path, scratch: Path) -> Path | None:
    """A copy of the timings alone, in ``scratch``; ``None`` where there are none, or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    digest, timings = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(timings).digest() != digest:
        return None
    copy = scratch / "timings"
    copy.write_bytes(timings)
    return copy


def write(path: Path, timings: bytes) -> None:
    """Keep ``timings``: whoever reads sees the old ones or these, and a full disk hurts nobody."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(hashlib.sha256(timings).digest() + timings)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
