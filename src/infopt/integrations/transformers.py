"""A callback for the Trainer of transformers: engines while a model is trained."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from infopt.errors import UnavailableError, UsageError
from infopt.integrations import keeping
from infopt.integrations.epochs import Epochs
from infopt.integrations.training import Attempt, optimize_in_training
from infopt.integrations.undisturbed import undisturbed
from infopt.integrations.wishes import Wishes, check_beforehand

try:
    import transformers
except ImportError as _error:
    raise UnavailableError(
        f'training with transformers needs it ({_error}); pip install "infopt[transformers]"'
    ) from None

if TYPE_CHECKING:
    import torch

ROWS = 2
"""How many examples of the training data are taken to show what the model is called with."""
LABELS = ("labels", "label", "label_ids", "start_positions", "end_positions")


class OptimizeCallback(transformers.TrainerCallback):
    """Compiles the model at the end of epochs and keeps the best engine.

    Where the trainer evaluates at every epoch, that is done behind the evaluation, whose metrics
    can be monitored; else all that was logged so far can. Example inputs are the first rows of the
    training data without labels, unless others are given; batch and length are dynamic then::

        trainer = Trainer(model, arguments, train_dataset=…, eval_dataset=…)
        OptimizeCallback("engines", monitor="eval_loss", mode="min").attach(trainer)

    What is found is logged as ``infopt/…`` by the trainer that the callback is attached to. A
    callback that is only given to a trainer knows no trainer: the state's ``log_history`` gets it,
    and no other logger.

    Args:
        directory: Where ``best.engine`` goes.
        every: Every so many epochs, and at the last, …
        epochs: … or at these, counted from one.
        **wishes: See :class:`infopt.integrations.wishes.Wishes`.

    Raises:
        UsageError: Something makes no sense.
        UnavailableError: transformers is not installed (when this module is imported).
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        every: int = 1,
        epochs: Collection[int] | None = None,
        **wishes: Unpack[Wishes],
    ) -> None:
        check_beforehand(wishes)
        self.attempts: list[Attempt] = []
        """What came of each epoch."""
        self._directory = Path(directory)
        self._epochs = Epochs(every, epochs)
        self._wishes = wishes
        self._found: Wishes = {}
        self._trainer: Any = None
        self._training = False

    def attach(self, trainer: Any) -> OptimizeCallback:
        """Become a callback of ``trainer``, and log by it; returns the callback."""
        trainer.add_callback(self)
        self._trainer = trainer
        return self

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._training = True
        if self._wishes.get("example_inputs") is None and self._wishes.get("prepare") is None:
            self._found = _from_data(kwargs["model"], kwargs.get("train_dataloader"))
        if state.global_step == 0 and state.is_world_process_zero:
            keeping.forget(self._directory)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._training = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.eval_strategy != "epoch":
            self._at_epoch(state, kwargs)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.eval_strategy == "epoch":
            self._at_epoch(state, kwargs)

    def _at_epoch(self, state: Any, given: Mapping[str, Any]) -> None:
        epoch = round(state.epoch or 0)
        if not self._training or not state.is_world_process_zero:
            return
        if not self._epochs.chosen(epoch, state.num_train_epochs):
            return
        scores = _scores(state.log_history)
        wishes: Wishes = {**self._found, **self._wishes}
        found = optimize_in_training(
            given["model"], self._directory, epoch=epoch, scores=scores, **wishes
        )
        self.attempts.append(found)
        metrics = dict(found.metrics)
        if self._trainer is not None:
            self._trainer.log(metrics)
        else:
            step = {"epoch": state.epoch, "step": state.global_step}
            state.log_history.append({**metrics, **step})


def _scores(history: list[Mapping[str, Any]]) -> dict[str, float]:
    """The latest value of all that was logged."""
    return {
        name: float(value)
        for entry in history
        for name, value in entry.items()
        if isinstance(value, (int, float))
    }


def _from_data(model: torch.nn.Module, loader: Any) -> Wishes:
    """Example inputs from the first rows of the training data, as the model gets them.

    Raises:
        UsageError: There are no rows to be had without going through the data.
    """
    import torch

    dataset: Any = getattr(loader, "dataset", None)
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__") or not len(dataset):
        raise UsageError(
            "the training data has no rows that can be looked at beforehand; give example_inputs, "
            "a dictionary of tensors, to OptimizeCallback"
        )
    with undisturbed(model):
        batch = loader.collate_fn([dataset[row % len(dataset)] for row in range(ROWS)])
    known = inspect.signature(model.forward).parameters
    inputs = {
        name: value
        for name, value in batch.items()
        if isinstance(value, torch.Tensor) and name in known and name not in LABELS
    }
    if not inputs:
        raise UsageError(
            f"nothing in the training data is an input of {type(model).__name__}; give "
            "example_inputs, a dictionary of tensors, to OptimizeCallback"
        )
    return {"example_inputs": inputs, "dynamic_shapes": {k: _axes(v) for k, v in inputs.items()}}


def _axes(tensor: torch.Tensor) -> dict[int, str]:
    """Rows are a batch, and what is behind rows of numbers of tokens is a text."""
    text = tensor.ndim == 2 and not tensor.is_floating_point()
    return {0: "batch", 1: "sequence"} if text else {0: "batch"}
