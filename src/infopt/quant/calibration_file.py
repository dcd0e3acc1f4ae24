"""Calibrations as a file: all that a pipeline asked for, one stage after the other.

The file is an ``.npz`` archive without pickles: one array for each field of each statistic, named
``stage/request/field``, and ``header``, a JSON text in UTF-8 that names, for each stage, the model,
the data and what was observed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infopt.errors import CalibrationError, InfoptError, OutputError, StorageError
from infopt.quant.calibration import KINDS, Calibration, Request, Statistic
from infopt.quant.statistics.channels import ChannelStatistics

FORMAT = "infopt-calibration"
VERSION = 2

_States = dict[tuple[int, int], dict[str, np.ndarray]]
"""Stage and request → the arrays of a statistic."""


def save(stages: Sequence[Calibration], path: Path) -> None:
    """Write the file, whole or not at all.

    Raises:
        StorageError: It cannot be written.
    """
    header = {
        "format": FORMAT,
        "version": VERSION,
        "stages": [
            {
                "model": stage.model,
                "data": stage.data,
                "samples": stage.samples,
                "synthetic": stage.synthetic,
                "requests": [dataclasses.asdict(request) for request in stage.requests],
            }
            for stage in stages
        ],
    }
    arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
    for at, stage in enumerate(stages):
        for number, request in enumerate(stage.requests):
            found = stage.statistics.get(request)
            for field, array in ({} if found is None else found.state()).items():
                arrays[f"{at}/{number}/{field}"] = array
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        unfinished.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}; choose another place"
        ) from None
    finally:
        unfinished.unlink(missing_ok=True)


def check_output(path: Path) -> None:
    """Make sure that a calibration may be written at ``path``.

    Raises:
        OutputError: Something is there that is no calibration of ours.
    """
    if not path.exists() and not path.is_symlink():
        return
    with contextlib.suppress(Exception), np.load(path, allow_pickle=False) as archive:
        if json.loads(archive["header"].tobytes())["format"] == FORMAT:
            return
    raise OutputError(
        f"{path} already exists and is no calibration; infopt does not overwrite it. "
        "Choose another file with -o, or remove it"
    )


def load(path: Path) -> tuple[Calibration, ...]:
    """Read the file.

    Raises:
        CalibrationError: It is no calibration, damaged, or of another version.
    """
    try:
        # Pickled objects inside could run code when they are loaded.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return _read(archive, path)
    except CalibrationError:
        raise
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # of the archive, its numbers and its text, of all kinds
        raise CalibrationError(
            f"{path} is no calibration, or damaged ({error}); calibrate again"
        ) from None


def merged(paths: Sequence[Path]) -> tuple[tuple[Calibration, ...], int]:
    """What these files hold of the same models, together; and how many stages that leaves out.

    A stage is of a model that depends on the stages before it. Shards that were each observed by
    themselves agree on the first model only; those that go on from the same merged file agree on
    the stages that they have from there, which count once, and on the next one.

    Raises:
        CalibrationError: One cannot be read, two are of different models, or of the same data.
    """
    stages = load(paths[0])
    most = len(stages)
    for path in paths[1:]:
        others = load(path)
        most = max(most, len(others))
        stages = _together(stages, others, path)
    return stages, most - len(stages)


def _together(
    stages: Sequence[Calibration], others: Sequence[Calibration], path: Path
) -> tuple[Calibration, ...]:
    found, added = [], False
    for mine, its in zip(stages, others, strict=False):
        if mine.model != its.model:
            break
        if mine.data != its.data:
            try:
                mine.merge(its)
            except InfoptError as error:
                raise CalibrationError(f"{path}: {error}") from None
            added = True
        found.append(mine)
    if not found:
        raise CalibrationError(
            f"{path} was observed on another model than the files before it; take all shards with "
            "the same model, target, precision, pipeline and version of infopt"
        )
    if not added:
        raise CalibrationError(
            f"{path} was observed on the same data as a file before it; each sample counts once: "
            "leave one of them out"
        )
    return tuple(found)


def _read(archive: Any, path: Path) -> tuple[Calibration, ...]:
    header = json.loads(archive["header"].tobytes())
    if (header["format"], header["version"]) != (FORMAT, VERSION):
        raise CalibrationError(
            f"{path} is of format {header['format']} {header['version']}, this infopt reads "
            f"{FORMAT} {VERSION}; calibrate again"
        )
    states: _States = {}
    for name in archive.files:
        if name != "header":
            at, number, field = name.split("/")
            states.setdefault((int(at), int(number)), {})[field] = archive[name]
    stages = tuple(_stage(entry, at, states) for at, entry in enumerate(header["stages"]))
    if not stages:
        raise ValueError("nothing was observed")
    if states:
        raise ValueError("it holds arrays of which its header says nothing")
    return stages


def _stage(entry: Mapping[str, Any], at: int, states: _States) -> Calibration:
    """One stage; what is read of ``states`` is taken out."""
    requests = tuple(
        Request(str(asked["value"]), str(asked["kind"]), int(asked["axis"]))
        for asked in entry["requests"]
    )
    if len(set(requests)) < len(requests):
        raise ValueError("it holds the same statistic twice")
    statistics: dict[Request, Statistic] = {
        request: KINDS[request.kind].from_state(states.pop((at, number)))
        for number, request in enumerate(requests)
        if (at, number) in states
    }
    for request, statistic in statistics.items():
        if isinstance(statistic, ChannelStatistics) and statistic.axis != request.axis:
            raise ValueError(f"the channels of {request.value!r} are on another axis")
    samples = int(entry["samples"])
    if samples < 0:
        raise ValueError("the number of its samples is negative")
    return Calibration(
        str(entry["model"]),
        requests,
        statistics,
        str(entry["data"]),
        samples,
        bool(entry["synthetic"]),
    )
