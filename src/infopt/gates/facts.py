"""Facts: all that is held against a baseline, of one engine or model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from infopt.engine import TensorSpec
from infopt.measure.statistics import Ratio

INTENDED: Mapping[str, tuple[str, ...]] = {
    "fp32": ("float", "double"),
    "fp16": ("float16",),
    "bf16": ("bfloat16",),
    "fp8": ("float8e4m3fn",),
    "int8": ("int8", "uint8"),
    "int8-dynamic": ("int8", "uint8"),
    "int8-trained": ("int8", "uint8"),
    "int4": ("int4", "uint4"),
}
"""Precision → the types in which it wants the weights of products."""


@dataclasses.dataclass(frozen=True)
class Error:
    """How far one output is from the reference's, at worst over the samples."""

    max_relative: float
    """``max|a-b| / max|b|``; infinite where outputs that are no floats differ."""
    sqnr_db: float
    """Signal to noise in decibels; infinite where all is equal."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Peak memory of a fresh process that loads a model and answers once, in bytes."""

    own: int
    reference: int
    """The same of the reference, in the same run."""


@dataclasses.dataclass(frozen=True)
class Metric:
    """The user's own figure; higher is better."""

    name: str
    value: float


@dataclasses.dataclass(frozen=True)
class Facts:
    """What an engine, or a model, is and does."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    operators: Mapping[str, int]
    """Operator of the payload → how often it occurs."""
    fusions: Mapping[str, int]
    """Standard operator → how many there were after raising."""
    products: Mapping[str, tuple[str, ...]]
    """Type of weights → names of products (see :mod:`infopt.ir.products`)."""
    size: int
    """Bytes on disk."""
    error: Mapping[str, Error] | None = None
    metric: Metric | None = None
    speed: Ratio | None = None
    """As a multiple of the reference's, measured in the same run."""
    cold_start: Ratio | None = None
    """The same of the time from the start of a process to its first answer."""
    memory: Memory | None = None
    unknown: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What could not be found out → why."""

    def without(self, reason: str, *names: str) -> Facts:
        """The same, saying of these findings why nothing is known."""
        return dataclasses.replace(self, unknown={**self.unknown, **dict.fromkeys(names, reason)})

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)
