"""Inputs of a linear layer as transformers have them: correlated, heavy-tailed, with outliers."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layer:
    """A weight and samples of its inputs."""

    weight: np.ndarray
    """float32 ``(out, in)``."""
    inputs: np.ndarray
    """float32 ``(rows, in)``."""

    @property
    def moment(self) -> np.ndarray:
        """float64 ``(in, in)``: the mean second moment of the inputs."""
        wide = self.inputs.astype(np.float64)
        return np.asarray(wide.T @ wide / len(wide))

    @property
    def magnitude(self) -> np.ndarray:
        """``(in,)``: the mean of ``|x|``."""
        return np.asarray(np.abs(self.inputs).mean(axis=0))


def layer(outputs: int, inputs: int, rows: int, seed: int = 0) -> Layer:
    """Inputs of low rank with noise, of which one channel in 64 is twenty times as large."""
    rng = np.random.default_rng(seed)
    rank = max(inputs // 8, 1)
    mixed = rng.standard_t(5, (rows, rank)) @ rng.normal(0, 1, (rank, inputs)) / np.sqrt(rank)
    x = (mixed + 0.3 * rng.normal(0, 1, (rows, inputs))) * np.exp(rng.normal(0, 0.5, inputs))
    x[:, rng.choice(inputs, inputs // 64, replace=False)] *= 20
    weight = rng.standard_t(6, (outputs, inputs)) / np.sqrt(inputs)
    return Layer(weight.astype(np.float32), x.astype(np.float32))
