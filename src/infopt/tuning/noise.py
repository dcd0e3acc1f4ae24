"""Noise of outputs, added up over samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from infopt.evidence.metrics import difference, is_floating


class Noise:
    """How far outputs are from what they should be, over all samples."""

    def __init__(self) -> None:
        self._signal: dict[str, float] = {}
        self._noise: dict[str, float] = {}
        self.max_relative = 0.0
        """The largest ``max|a-b| / max|b|`` of an output of a sample."""

    def add(self, computed: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        """Take the outputs for one more sample; only arrays of floating-point numbers count."""
        for name, right in expected.items():
            b = np.asarray(right) if not isinstance(right, (list, dict)) else None
            if b is None or not is_floating(b.dtype):
                continue
            found = difference(computed[name], b)
            finite = np.isfinite(b)
            wide = _wide(b[finite])
            noise = 0.0
            if found.max_absolute:
                self.max_relative = max(self.max_relative, found.max_relative)
                noise = math.inf
                if math.isfinite(found.max_absolute):
                    noise = _energy(_wide(np.asarray(computed[name])[finite]) - wide)
            self._signal[name] = self._signal.get(name, 0.0) + _energy(wide)
            self._noise[name] = self._noise.get(name, 0.0) + noise

    @property
    def judged(self) -> bool:
        """Whether there was anything to compare."""
        return bool(self._signal)

    @property
    def sqnr_db(self) -> float:
        """``10·log10(Σb² / Σ(a-b)²)`` of the worst output; infinite where all are equal."""
        found = (_decibels(it, self._noise[name]) for name, it in self._signal.items())
        return min(found, default=math.inf)


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    if signal == 0 or math.isinf(noise):
        return -math.inf
    return 10 * math.log10(signal / noise)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _energy(array: np.ndarray) -> float:
    return float(np.sum(np.abs(array) ** 2))
