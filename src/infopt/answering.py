"""A process that loads an engine or a model, has it answer once, and ends: a cold start.

``python -m infopt.answering SUBJECT INPUTS.npz [THREADS]``
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from infopt.backends.base import RunOptions
from infopt.subjects import open_session


def command(subject: object, inputs: Path, threads: int | None) -> list[str]:
    """What to run for a cold start of ``subject`` on the inputs in a file."""
    words = [sys.executable, "-m", "infopt.answering", str(subject), str(inputs)]
    return words if threads is None else [*words, str(threads)]


def can_keep(inputs: Mapping[str, np.ndarray]) -> bool:
    """Whether inputs can be kept in a file: strings are objects, and objects would be pickled."""
    return all(np.asarray(array).dtype.kind not in "OV" for array in inputs.values())


def main(arguments: Sequence[str]) -> None:
    """Load, answer, end at once: tidying up is no part of an answer."""
    subject, file, *threads = arguments
    with np.load(file, allow_pickle=False) as archive:
        inputs = {name: archive[name] for name in archive.files}
    with tempfile.TemporaryDirectory(prefix="infopt-") as room:
        options = RunOptions(threads=int(threads[0]) if threads else None)
        open_session(subject, Path(room), options)(inputs)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
