"""Train a small network on real handwritten digits with Lightning, and get an engine.

    python train_digits.py [--epochs 4] [--baseline baseline.json]

At the end of each epoch the network becomes an engine, which is compared with it, judged by the
digits that it gets right, and held against a baseline, where there is one. The best of them is
engines/best.engine.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from infopt.integrations.lightning import OptimizeCallback

Batch = Sequence[torch.Tensor]


def digits() -> tuple[TensorDataset, TensorDataset]:
    """Pictures (1, 8, 8) of digits and what they show: 1,397 to train on, 400 to judge by."""
    pictures, labels = load_digits(return_X_y=True)
    scaled = torch.tensor(pictures / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    shown = torch.from_numpy(labels)
    seen, unseen = order[:1397], order[1397:]
    return TensorDataset(scaled[seen], shown[seen]), TensorDataset(scaled[unseen], shown[unseen])


def held_out() -> list[dict[str, np.ndarray]]:
    """The pictures to judge by, as the engine takes them: by the name of forward's argument."""
    return [{"pictures": batch.numpy()} for batch in digits()[1].tensors[0].split(100)]


def accuracy(outputs: Sequence[Mapping[str, Any]], inputs: Sequence[Mapping[str, Any]]) -> float:
    """The share of the pictures of :func:`held_out` that an engine gets right."""
    found = np.concatenate([np.argmax(each["output"], axis=1) for each in outputs])
    return float(np.mean(found == digits()[1].tensors[1].numpy()))


class Network(pl.LightningModule):
    """Two convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2)),
            nn.Linear(32 * 4 * 4, 10),
        )
        self.example_input_array = torch.zeros(2, 1, 8, 8)  # what infopt calls the network with

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Scores of the ten digits: (batch, 1, 8, 8) → (batch, 10)."""
        scores: torch.Tensor = self.layers(pictures)
        return scores

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        """The loss of one batch."""
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Batch, index: int) -> None:
        """How many are right before anything is compiled."""
        self.log("val_accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), 3e-3)


def main() -> None:
    """Read the arguments, train, and say what came of each epoch."""
    parser = argparse.ArgumentParser(description="Train on digits, and get an engine.")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--baseline", help="hold each engine against this file")
    arguments = parser.parse_args()

    pl.seed_everything(0)
    callback = OptimizeCallback(
        "engines",
        data=held_out(),
        metric=accuracy,
        baseline=arguments.baseline,
        limits={"max_drop": 0.02} if arguments.baseline else {},
    )
    trainer = pl.Trainer(
        max_epochs=arguments.epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[callback],
    )
    seen, unseen = digits()
    trainer.fit(Network(), DataLoader(seen, 64, shuffle=True), DataLoader(unseen, 400))

    for attempt in callback.attempts:
        right = attempt.metrics.get("infopt/metric", float("nan"))
        gate = "" if attempt.check is None else f", {attempt.check.sentence}"
        best = ", the best so far" if attempt.best else ""
        print(f"epoch {attempt.epoch}: {right:.1%} right{gate}{best}{attempt.error}")


if __name__ == "__main__":
    main()
