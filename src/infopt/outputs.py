"""Text files that are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from infopt.errors import OutputError, StorageError


def check_text(path: Path) -> None:
    """Make sure, before any work, that a text may be written at ``path``.

    Raises:
        OutputError: It is a directory.
        StorageError: Its directory is not there, or not writable.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a directory; name a file")
    if not path.resolve().parent.is_dir():
        raise StorageError(f"{path} cannot be written: there is no directory {path.parent}")
    if not os.access(path.resolve().parent, os.W_OK):
        raise StorageError(f"{path} cannot be written: {path.parent} is not writable")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` at ``path``; what was there before stays until the text is complete.

    Raises:
        OutputError: It is a directory.
        StorageError: It cannot be written.
    """
    check_text(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.infopt")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}; choose another place"
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)
