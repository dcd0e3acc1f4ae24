"""The best engine of a training, and what is known of it."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from infopt import engine as engines
from infopt.errors import StorageError, UsageError, nearest

BEST = "best.engine"
"""The engine that is kept, in the directory of a training …"""
REFERENCE = "best.reference"
"""… the model that it was made from, as ``model.onnx`` …"""
RECORD = "best.json"
"""… and of which epoch it is, and how good."""


@dataclasses.dataclass(frozen=True)
class Standing:
    """How good an engine is."""

    epoch: int
    """How many epochs its model was trained for."""
    monitor: str | None
    """What its score is called; ``None`` where the latest is the best."""
    score: float | None

    def beats(self, other: Standing | None, mode: Literal["max", "min"]) -> bool:
        """Whether an engine that stands so is kept instead of one that stands like ``other``."""
        if self.score is None or other is None or other.monitor != self.monitor:
            return self.score is None or not math.isnan(self.score)
        if other.score is None:
            return not math.isnan(self.score)
        return self.score > other.score if mode == "max" else self.score < other.score


def standing(epoch: int, monitor: str | None, scores: Mapping[str, float]) -> Standing:
    """How good the engine of an epoch is.

    Raises:
        UsageError: There is no score of the name ``monitor``.
    """
    if monitor is None:
        return Standing(epoch, None, None)
    if monitor not in scores:
        known = ", ".join(sorted(scores)) or "none"
        raise UsageError(
            f"there is no score {monitor!r} to monitor{nearest(monitor, scores)}; known: {known}"
        )
    return Standing(epoch, monitor, float(scores[monitor]))


def read(directory: Path) -> Standing | None:
    """How good the engine is that is kept; ``None`` where there is none, or nobody knows."""
    try:
        found = json.loads((directory / RECORD).read_text(encoding="utf-8"))
        score = found["score"]
        known = Standing(int(found["epoch"]), found["monitor"], score and float(score))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if engines.is_engine(directory / BEST) else None


def keep(engine: Path, reference: Path, directory: Path, how: Standing) -> Path:
    """Put ``engine`` in the place of the best, and its model beside it.

    Raises:
        StorageError: That is not possible.
    """
    try:
        forget(directory)
        reference.rename(directory / REFERENCE)
        engine.rename(directory / BEST)
        text = json.dumps(dataclasses.asdict(how), indent=1)
        (directory / RECORD).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"{directory / BEST} cannot be written: {error}") from None
    return directory / BEST


def forget(directory: Path) -> None:
    """Remove the best engine of a training before; what else is in ``directory`` stays."""
    (directory / RECORD).unlink(missing_ok=True)
    engines.check_output(directory / BEST)
    for name in (BEST, REFERENCE):
        shutil.rmtree(directory / name, ignore_errors=True)
