"""A callback for Lightning: engines while a model is trained."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Unpack

from infopt.errors import UnavailableError, UsageError
from infopt.integrations import keeping
from infopt.integrations.epochs import Epochs
from infopt.integrations.training import Attempt, optimize_in_training
from infopt.integrations.wishes import Wishes, check_beforehand

try:
    import lightning.pytorch as pl
except ImportError as _error:
    raise UnavailableError(
        f'training with Lightning needs lightning ({_error}); pip install "infopt[lightning]"'
    ) from None


class OptimizeCallback(pl.Callback):
    """Compiles the model at the end of epochs, behind validation, and keeps the best engine.

    What is found is logged as ``infopt/…``, to the trainer's logger and where other callbacks find
    it. Any metric that was logged so far can be monitored. Example inputs are the module's own
    ``example_input_array``, unless others are given::

        callback = OptimizeCallback("engines", monitor="val_accuracy")
        trainer = Trainer(max_epochs=3, callbacks=[callback])

    Args:
        directory: Where ``best.engine`` goes.
        every: Every so many epochs, and at the last, …
        epochs: … or at these, counted from one.
        **wishes: See :class:`infopt.integrations.wishes.Wishes`.

    Raises:
        UsageError: Something makes no sense.
        UnavailableError: Lightning is not installed (when this module is imported).
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

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._examples(pl_module)
        started_again = trainer.current_epoch == 0 and not trainer.ckpt_path
        if started_again and trainer.is_global_zero and not _is_trial(trainer):
            keeping.forget(self._directory)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if not self._epochs.chosen(epoch, trainer.max_epochs) or _is_trial(trainer):
            return
        if not trainer.is_global_zero:
            return
        scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
        wishes: Wishes = {**self._wishes, **self._examples(pl_module)}
        found = optimize_in_training(
            pl_module, self._directory, epoch=epoch, scores=scores, **wishes
        )
        self.attempts.append(found)
        pl_module.log_dict(dict(found.metrics), rank_zero_only=True)

    def _examples(self, module: pl.LightningModule) -> Wishes:
        given = self._wishes.get("example_inputs")
        if given is None:
            given = module.example_input_array
        if given is None and self._wishes.get("prepare") is None:
            raise UsageError(
                f"to export {type(module).__name__}, infopt must call it: set its "
                "example_input_array, or give example_inputs to OptimizeCallback"
            )
        return {"example_inputs": given}


def _is_trial(trainer: pl.Trainer) -> bool:
    """Whether it is a ``fast_dev_run``, which keeps nothing; Trainer declares no such attribute."""
    return bool(getattr(trainer, "fast_dev_run", False))
