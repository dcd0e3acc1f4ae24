"""Small models to train, and data of real digits."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

EXAMPLE = (torch.zeros(2, 64),)


def network() -> nn.Module:
    """Random numbers and running statistics in training, none of both in an engine."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10)
    )


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of 64 values from 0 to 1, and what they show."""
    rows, labels = load_digits(return_X_y=True)
    return torch.from_numpy(rows.astype(np.float32) / 16), torch.from_numpy(labels)


def held_out() -> list[dict[str, np.ndarray]]:
    """The last 200 digits, as an engine of :func:`network` takes them."""
    return [{"input": digits()[0][-200:].numpy()}]


def accuracy(outputs: Sequence[Mapping[str, Any]], inputs: Sequence[Mapping[str, Any]]) -> float:
    """The share of :func:`held_out` that is right."""
    found = np.argmax(outputs[0]["output"], axis=1)
    return float(np.mean(found == digits()[1][-200:].numpy()))


def train(model: nn.Module, epochs: int, behind: Callable[[int], object]) -> None:
    """Train on shuffled digits with all kinds of random numbers.

    Args:
        model: The model.
        epochs: How many epochs.
        behind: Called behind each epoch, with how many are done.
    """
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    rows, labels = (each[:-200] for each in digits())
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    model.train()
    for epoch in range(epochs):
        order = torch.from_numpy(np.random.permutation(len(rows)))
        for some in order.split(200):
            noisy = rows[some] + 0.01 * random.random() * torch.randn(len(some), 64)
            loss = nn.functional.cross_entropy(model(noisy), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        behind(epoch + 1)
