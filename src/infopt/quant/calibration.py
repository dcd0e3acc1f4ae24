"""Calibration: what was observed of a model's values on data, as a file that can be kept.

The file is an ``.npz`` archive without pickles: one array for each field of each statistic, and
``header``, a JSON text in UTF-8 that names the model, the data and what was observed.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from infopt.errors import CalibrationError
from infopt.quant.statistics.channels import ChannelStatistics
from infopt.quant.statistics.histogram import Histogram
from infopt.quant.statistics.moments import SecondMoment

FORMAT = "infopt-calibration"
VERSION = 1

Statistic = Histogram | ChannelStatistics | SecondMoment


@dataclasses.dataclass(frozen=True, order=True)
class Request:
    """What a pass wants to know of a value."""

    value: str
    kind: str
    """``histogram``, ``channels`` or ``moments``: see :mod:`infopt.quant.statistics`."""
    axis: int = 0
    """The axis of the channels; of no meaning to a histogram."""

    def new(self, array: np.ndarray) -> Statistic:
        """A statistic that has seen nothing yet, for such an array."""
        if self.kind == "channels":
            return ChannelStatistics(self.axis)
        return SecondMoment(array.shape[self.axis]) if self.kind == "moments" else Histogram()


_KINDS: Mapping[str, type[Histogram] | type[ChannelStatistics] | type[SecondMoment]] = {
    "histogram": Histogram,
    "channels": ChannelStatistics,
    "moments": SecondMoment,
}


@dataclasses.dataclass
class Calibration:
    """Statistics of a model's values, and on which model and data they were taken."""

    model: str
    """Digest of the model that was observed."""
    requests: tuple[Request, ...]
    """What was asked for."""
    statistics: dict[Request, Statistic]
    """What was found; a value that no sample computes has none."""
    data: str = ""
    """Digest of all samples so far, in their order."""
    samples: int = 0
    """How many samples were observed."""
    synthetic: bool = False
    """Whether the samples were made up."""

    @classmethod
    def empty(cls, model: str, requests: Iterable[Request], *, synthetic: bool) -> Calibration:
        """Nothing observed yet."""
        return cls(model, tuple(sorted(set(requests))), {}, synthetic=synthetic)

    def histogram(self, value: str | None) -> Histogram | None:
        """What is known of all elements of a value."""
        found = self.statistics.get(Request(value or "", "histogram"))
        return found if isinstance(found, Histogram) else None

    def channels(self, value: str | None, axis: int) -> ChannelStatistics | None:
        """What is known of each channel of a value."""
        found = self.statistics.get(Request(value or "", "channels", axis))
        return found if isinstance(found, ChannelStatistics) else None

    def moments(self, value: str | None, axis: int) -> SecondMoment | None:
        """The second moment of the channels of a value."""
        found = self.statistics.get(Request(value or "", "moments", axis))
        return found if isinstance(found, SecondMoment) else None

    def update(self, values: Mapping[str, np.ndarray]) -> None:
        """Take in the values of one sample."""
        for request in self.requests:
            array = values[request.value]
            if request not in self.statistics:
                self.statistics[request] = request.new(array)
            if request.kind == "moments":
                array = np.moveaxis(array, request.axis, -1)
            self.statistics[request].update(array)
        self.samples += 1

    def merge(self, other: Calibration) -> None:
        """Take in what was observed of the same model on other data.

        Raises:
            CalibrationError: It was another model, or something else was observed.
        """
        if other.model != self.model or other.requests != self.requests:
            raise CalibrationError(
                "calibrations of different models, or of different values, cannot be merged; "
                "take all shards with the same model and options"
            )
        for request, statistic in other.statistics.items():
            if request in self.statistics:
                self.statistics[request].merge(statistic)  # type: ignore[arg-type]
            else:
                self.statistics[request] = statistic
        self.samples += other.samples
        self.data = f"{self.data}+{other.data}" if self.data else other.data
        self.synthetic |= other.synthetic

    def as_dict(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {
            "model": self.model,
            "data": self.data,
            "samples": self.samples,
            "synthetic": self.synthetic,
            "values": len({request.value for request in self.requests}),
        }

    def save(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        header = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "data": self.data,
            "samples": self.samples,
            "synthetic": self.synthetic,
            "requests": [dataclasses.asdict(request) for request in self.requests],
        }
        arrays = {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}
        for number, request in enumerate(self.requests):
            found = self.statistics.get(request)
            for field, array in ({} if found is None else found.state()).items():
                arrays[f"{number}/{field}"] = array
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with unfinished.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Calibration:
        """Read the file.

        Raises:
            CalibrationError: It is no calibration, damaged, or of another version.
        """
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
                return cls._read(archive, path)
        except CalibrationError:
            raise
        except OSError as error:
            raise CalibrationError(f"{path} cannot be read: {error.strerror or error}") from None
        except (
            EOFError,
            ValueError,
            KeyError,
            TypeError,
            AttributeError,
            zipfile.BadZipFile,
        ) as error:
            raise CalibrationError(
                f"{path} is no calibration, or damaged ({error}); calibrate again"
            ) from None

    @classmethod
    def _read(cls, archive: Any, path: Path) -> Calibration:
        header = json.loads(archive["header"].tobytes())
        if header["format"] != FORMAT or header["version"] != VERSION:
            raise CalibrationError(
                f"{path} is of format {header['format']} {header['version']}, this infopt reads "
                f"{FORMAT} {VERSION}; calibrate again"
            )
        states: dict[int, dict[str, np.ndarray]] = {}
        for name in archive.files:
            number, _, field = name.partition("/")
            if field:
                states.setdefault(int(number), {})[field] = archive[name]
        requests = tuple(
            Request(str(entry["value"]), str(entry["kind"]), int(entry["axis"]))
            for entry in header["requests"]
        )
        statistics: dict[Request, Statistic] = {
            request: _KINDS[request.kind].from_state(states[number])
            for number, request in enumerate(requests)
            if number in states
        }
        for request, statistic in statistics.items():
            if isinstance(statistic, ChannelStatistics) and statistic.axis != request.axis:
                raise ValueError(f"the channels of {request.value!r} are on another axis")
        return cls(
            str(header["model"]),
            requests,
            statistics,
            str(header["data"]),
            int(header["samples"]),
            bool(header["synthetic"]),
        )
