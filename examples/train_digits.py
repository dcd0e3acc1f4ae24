"""Train a small network on real handwritten digits with Lightning, and get an engine.

    python examples/train_digits.py DIRECTORY [--epochs 4] [--baseline baseline.json]

At the end of each epoch the network becomes an engine. The engine has to compute what the network
computes, is judged by the digits that it gets right, and held against a baseline, where there is
one; the best of them is DIRECTORY/best.engine.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from infopt.integrations.lightning import OptimizeCallback

TRAINED_ON = 1397
"""Of the 1,797 digits; the others are there to judge."""


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures of shape (1797, 1, 8, 8) with values from 0 to 1, and what they show."""
    pictures, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    scaled = pictures[order].reshape(-1, 1, 8, 8).astype(np.float32) / 16
    return torch.from_numpy(scaled), torch.from_numpy(labels[order])


def held_out() -> list[dict[str, np.ndarray]]:
    """The digits to judge by, in batches as the engine takes them."""
    return [{"pictures": batch.numpy()} for batch in digits()[0][TRAINED_ON:].split(100)]


def accuracy(outputs: Sequence[Mapping[str, Any]], inputs: Sequence[Mapping[str, Any]]) -> float:
    """The share of the digits of :func:`held_out` that the engine gets right."""
    found = np.concatenate([np.argmax(each["output"], axis=1) for each in outputs])
    return float(np.mean(found == digits()[1][TRAINED_ON:].numpy()))


class Digits(pl.LightningModule):
    """Two convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(32 * 4 * 4, 10),
        )
        self.example_input_array = torch.zeros(2, 1, 8, 8)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Scores of the ten digits: (batch, 1, 8, 8) → (batch, 10)."""
        scores: torch.Tensor = self.net(pictures)
        return scores

    def training_step(self, batch: Sequence[torch.Tensor], index: int) -> torch.Tensor:
        """The loss of one batch."""
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Sequence[torch.Tensor], index: int) -> None:
        """How many digits are right."""
        right = (self(batch[0]).argmax(1) == batch[1]).float().mean()
        self.log("val_accuracy", right)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), 3e-3)


def train(
    directory: Path, epochs: int, baseline: Path | None = None, max_drop: float = 0.02
) -> OptimizeCallback:
    """Train, and compile at every epoch.

    Args:
        directory: Where the engines go.
        epochs: How many.
        baseline: What engines are held against.
        max_drop: How many digits fewer than the baseline's may be right, as a share.
    """
    pl.seed_everything(0, verbose=False)
    pictures, labels = digits()
    seen = TensorDataset(pictures[:TRAINED_ON], labels[:TRAINED_ON])
    unseen = TensorDataset(pictures[TRAINED_ON:], labels[TRAINED_ON:])
    callback = OptimizeCallback(
        directory,
        data=held_out(),
        metric=accuracy,
        baseline=baseline,
        limits={"max_drop": max_drop} if baseline is not None else {},
    )
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    trainer.fit(
        Digits(),
        DataLoader(seen, batch_size=64, shuffle=True),
        DataLoader(unseen, batch_size=400),
    )
    return callback


def main() -> None:
    """Read the arguments, train, and say what came of each epoch."""
    parser = argparse.ArgumentParser(description="Train on digits, and get an engine.")
    parser.add_argument("directory", type=Path, help="where the engines go")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--baseline", type=Path, help="what `infopt baseline` wrote")
    arguments = parser.parse_args()
    callback = train(arguments.directory, arguments.epochs, arguments.baseline)
    for attempt in callback.attempts:
        right = attempt.metrics.get("infopt/metric", float("nan"))
        gate = "" if attempt.check is None else f", {attempt.check.sentence}"
        best = ", the best so far" if attempt.best else ""
        print(f"epoch {attempt.epoch}: {right:.1%} right{gate}{best}{attempt.error}")


if __name__ == "__main__":
    main()
