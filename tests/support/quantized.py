"""Quantization-aware training with torchao: a small network and real digits."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

EXAMPLE = torch.zeros(2, 1, 8, 8)
SEEN = 1400


def network(*, normalized: bool = True) -> nn.Module:
    """Two convolutions, one of them normalized, and a linear layer.

    A normalization costs torchao 20 seconds, which it folds into the convolution.
    """
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8) if normalized else nn.Identity(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """torchao warns of what it calls itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _batch() -> tuple[dict[int, object]]:
    return ({0: torch.export.Dim("batch", min=2, max=1024)},)


def prepared(
    model: nn.Module, example: torch.Tensor = EXAMPLE, *, reduce_range: bool = False
) -> torch.fx.GraphModule:
    """``model`` with fake quantization as processors want it, ready to be trained."""
    with quiet():
        from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        config = x86.get_default_x86_inductor_quantization_config(
            is_qat=True, reduce_range=reduce_range
        )
        program = torch.export.export(model.train(), (example,), dynamic_shapes=_batch())
        quantizer = x86.X86InductorQuantizer().set_global(config)
        ready: torch.fx.GraphModule = prepare_qat_pt2e(program.module(), quantizer)
        return ready


def converted(
    ready: torch.fx.GraphModule, example: torch.Tensor = EXAMPLE, *, fold_quantize: bool = True
) -> torch.export.ExportedProgram:
    """What was trained, with integers; ``ready`` stays as it is."""
    import copy

    with quiet():
        from torchao.quantization.pt2e import move_exported_model_to_eval
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        trained = copy.deepcopy(ready)
        move_exported_model_to_eval(trained)
        whole = convert_pt2e(trained, fold_quantize=fold_quantize)
        return torch.export.export(whole, (example,), dynamic_shapes=_batch())


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures with values from 0 to 1, and what they show; in no order."""
    pictures, labels = load_digits(return_X_y=True)
    scaled = pictures.reshape(-1, 1, 8, 8).astype(np.float32) / 16
    order = np.random.default_rng(0).permutation(len(labels))
    return torch.from_numpy(scaled[order]), torch.from_numpy(labels[order])


def train(model: nn.Module, epochs: int, behind: Callable[[int], object] = int) -> None:
    """Train on :data:`SEEN` digits; ``behind`` is called behind each epoch."""
    torch.manual_seed(1)
    pictures, labels = (each[:SEEN] for each in digits())
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for epoch in range(epochs):
        for some in torch.randperm(SEEN).split(100):
            loss = nn.functional.cross_entropy(model(pictures[some]), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        behind(epoch + 1)


def accuracy_of(scores: Callable[[torch.Tensor], np.ndarray]) -> float:
    """The share of the other digits that is right."""
    pictures, labels = (each[SEEN:] for each in digits())
    return float(np.mean(scores(pictures).argmax(1) == labels.numpy()))
