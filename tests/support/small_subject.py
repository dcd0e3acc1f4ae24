"""A subject of the GPU benchmark that takes no time."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.gpu_models import Subject


class Small(torch.nn.Module):
    """A table and a linear layer; float32 [n, 8, 32] and ids → [n, 8, 16], and a sum."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(1000, 32)
        self.linear = torch.nn.Linear(32, 16)

    def forward(self, ids: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        hidden = self.linear(self.table(ids) + x)
        return hidden, hidden.sum()


def feeds(batch: int, seed: int) -> dict[str, np.ndarray]:
    """Inputs of it."""
    rng = np.random.default_rng(seed)
    return {
        "ids": rng.integers(0, 1000, (batch, 8)),
        "x": rng.standard_normal((batch, 8, 32), np.float32),
    }


SMALL = Subject("Small one", "8 tokens", Small, feeds)
