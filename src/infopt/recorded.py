"""Calibrations that lie in a file: what stands for the data, and what they tell."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.errors import CalibrationError, UsageError
from infopt.ir import digest
from infopt.pipeline import Pipeline
from infopt.quant import calibration_file
from infopt.quant.calibration import Calibration, Request
from infopt.quant.statistics.channels import ChannelStatistics
from infopt.quant.statistics.histogram import Histogram
from infopt.quant.statistics.moments import SecondMoment

ENDING = ".calibration.npz"
OUTSIDE = (
    "The inputs are made up and may lie outside of what was calibrated: compare on some real ones "
    "with --data. "
)
"""What is to be said of an engine that is wrong where the data stayed at home."""


class Recorded:
    """Answers from a file wherever a pipeline calibrates.

    Raises:
        CalibrationError: The file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stages = calibration_file.load(path)
        self._digest = digest.file_digest(path)
        self._used: dict[int, Calibration] = {}

    def __call__(self, model: ir.Model, wanted: Collection[Request]) -> Calibration:
        """What the file knows of ``model``.

        Raises:
            CalibrationError: It knows another model, or not all that is ``wanted``.
        """
        name = digest.model_digest(model)
        for at, stage in enumerate(self._stages):
            if stage.covers(name, wanted):
                return self._used.setdefault(at, stage)
        raise CalibrationError(self._why_not(name, wanted))

    def evidence(self) -> list[dict[str, Any]]:
        """What a manifest says of all that was used."""
        file = {"file": self.path.name, "sha256": self._digest}
        return [{**stage.as_dict(), **file} for stage in self._used.values()]

    def forget(self) -> None:
        """Leave the file where it is: it is the user's."""

    def _why_not(self, name: str, wanted: Collection[Request]) -> str:
        if self._used and len(self._used) == len(self._stages):
            return (
                f"{self.path} holds {len(self._used)} of the calibrations that the pipeline asks "
                "for, and it asks for another, of the model as it is after that: go on with "
                f"`infopt calibrate MODEL --data … --continue-from {self.path}`"
            )
        same = [stage for stage in self._stages if stage.model == name]
        known = {request for stage in same for request in stage.requests}
        if same:
            missing = sorted(set(wanted) - known)
            what = f"{missing[0].kind} of {missing[0].value!r}" if missing else "all at once"
            more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
            return (
                f"{self.path} does not hold what the pipeline asks for ({what}{more}); calibrate "
                "with the same --precision, --scheme and --pipeline"
            )
        return (
            f"{self.path} was observed on another model than the one that the pipeline calibrates "
            f"({name}); use the same model, --target, --precision, --scheme, --pipeline and "
            "version of infopt as when it was made, or calibrate again"
        )


def recorded(
    path: str | os.PathLike[str] | None, pipeline: Pipeline, *, synthetic: bool
) -> Recorded | None:
    """What stands for the data where a calibration file was given.

    Raises:
        CalibrationError: The file cannot be read.
        UsageError: It would go unused, or contradicts another wish.
    """
    if path is None:
        return None
    if not pipeline.calibrates():
        raise UsageError(
            "a calibration is given, but nothing in the pipeline calibrates; leave it out, or "
            "choose a precision that does, such as int8"
        )
    if synthetic:
        raise UsageError("calibrate on a file or on made-up inputs: both cannot be")
    return Recorded(Path(path))


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a calibration saw of one value."""

    value: str
    kinds: tuple[str, ...]
    """What was observed: ``histogram``, ``channels``, ``moments``."""
    low: float | None = None
    """The smallest value; ``None`` where only moments were observed, or no sample computes it."""
    high: float | None = None
    zeros: float | None = None
    """The share of exact zeros, where a histogram tells."""
    nonfinite: int = 0
    """How many values (of moments, rows) were infinite or not a number."""


@dataclasses.dataclass(frozen=True)
class Calibrated:
    """A calibration file that was written."""

    path: Path
    stages: tuple[Calibration, ...]
    left_out: int = 0
    """How many later stages a merge could not keep: their models differ."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "file": str(self.path),
            "bytes": self.path.stat().st_size,
            "left_out": self.left_out,
            "stages": [
                {**stage.as_dict(), "seen": [dataclasses.asdict(row) for row in seen(stage)]}
                for stage in self.stages
            ],
        }


def seen(stage: Calibration) -> Iterator[Seen]:
    """What a calibration saw of each value, by name."""
    for value in sorted({request.value for request in stage.requests}):
        requests = [request for request in stage.requests if request.value == value]
        yield _seen(value, stage, requests)


def _seen(value: str, stage: Calibration, requests: Sequence[Request]) -> Seen:
    found = Seen(value, tuple(dict.fromkeys(request.kind for request in requests)))
    # A histogram tells most, and moments least.
    for request in sorted(requests, key=lambda request: _TOLD.index(request.kind)):
        statistic = stage.statistics.get(request)
        if isinstance(statistic, Histogram):
            count, zeros = statistic.count, statistic.zeros
            share = zeros / count if count else None
            low, high = (statistic.low, statistic.high) if count else (None, None)
            return dataclasses.replace(
                found, low=low, high=high, zeros=share, nonfinite=statistic.nonfinite
            )
        if isinstance(statistic, ChannelStatistics) and statistic.observed:
            some = statistic.count > 0
            low = float(np.min(statistic.low[some])) if some.any() else None
            high = float(np.max(statistic.high[some])) if some.any() else None
            return dataclasses.replace(found, low=low, high=high, nonfinite=statistic.nonfinite)
        if isinstance(statistic, SecondMoment):
            return dataclasses.replace(found, nonfinite=statistic.nonfinite)
    return found


_TOLD = ("histogram", "channels", "moments")
