"""Calibration: what was observed of a model's values on data."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from infopt.errors import CalibrationError
from infopt.quant.statistics.channels import ChannelStatistics
from infopt.quant.statistics.histogram import Histogram
from infopt.quant.statistics.moments import SecondMoment

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


KINDS: Mapping[str, type[Histogram] | type[ChannelStatistics] | type[SecondMoment]] = {
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

    def covers(self, model: str, wanted: Collection[Request]) -> bool:
        """Whether it was taken of the model of this digest, and tells all that is wanted."""
        return self.model == model and set(wanted) <= set(self.requests)

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
            CalibrationError: It was another model, something else was observed, or some of the
                data is the same.
        """
        if other.model != self.model or other.requests != self.requests:
            raise CalibrationError(
                "calibrations of different models, or of different values, cannot be merged; "
                "take all shards with the same model and options"
            )
        twice = set(filter(None, self.data.split("+"))) & set(other.data.split("+"))
        if twice:
            raise CalibrationError(
                f"two calibrations have seen the same data ({min(twice)}); each sample counts "
                "once: leave one of them out"
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
