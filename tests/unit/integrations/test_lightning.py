"""The callback in real trainings with Lightning."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import infopt
from infopt.errors import ImportFailed, UsageError
from infopt.integrations.lightning import OptimizeCallback
from tests.support.training import accuracy, digits, held_out, network

pytestmark = [
    # Lightning's own, on this version of torch and on two cores.
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]


class Digits(pl.LightningModule):
    def __init__(self, *, deciding: bool = False) -> None:
        super().__init__()
        self.net = network()
        self.deciding = deciding
        self.example_input_array = torch.zeros(2, 64)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.deciding and input.sum() > 1e9:
            return -input
        result: torch.Tensor = self.net(input)
        return result

    def training_step(self, batch: Sequence[torch.Tensor], index: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Sequence[torch.Tensor], index: int) -> None:
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), 1e-2)


class Logger(DummyLogger):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, float]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.seen.append(metrics)


def fit(
    callback: OptimizeCallback | None,
    *,
    epochs: int = 2,
    module: Digits | None = None,
    **options: Any,
) -> tuple[Digits, Logger]:
    pl.seed_everything(0, verbose=False)
    module, logger = module or Digits(), Logger()
    rows, labels = digits()
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        log_every_n_steps=4,
        logger=logger,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[] if callback is None else [callback],
        **options,
    )
    seen = TensorDataset(rows[:-200], labels[:-200])
    unseen = TensorDataset(rows[-200:], labels[-200:])
    trainer.fit(module, DataLoader(seen, 200, shuffle=True), DataLoader(unseen, 200))
    return module, logger


def test_a_training_gives_an_engine(tmp_path: Path) -> None:
    callback = OptimizeCallback(tmp_path, data=held_out(), metric=accuracy)
    module, logger = fit(callback)
    assert [(attempt.epoch, attempt.made) for attempt in callback.attempts] == [
        (1, True),
        (2, True),
    ]
    told = [entry["infopt/metric"] for entry in logger.seen if "infopt/metric" in entry]
    expected = [attempt.metrics["infopt/metric"] for attempt in callback.attempts]
    assert told == pytest.approx(expected)
    session = infopt.load(tmp_path / "best.engine")
    rows = digits()[0][-200:]
    best = max(callback.attempts, key=lambda attempt: attempt.metrics["infopt/metric"])
    if best.epoch == 2:
        right = module.eval()(rows).argmax(1).numpy()
        assert (session(input=rows.numpy())["output"].argmax(1) == right).mean() > 0.99


def test_it_trains_as_without(tmp_path: Path) -> None:
    alone, _ = fit(None)
    beside, _ = fit(OptimizeCallback(tmp_path))
    states = alone.state_dict(), beside.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert beside.training


def test_what_was_logged_can_be_monitored(tmp_path: Path) -> None:
    callback = OptimizeCallback(tmp_path, monitor="val_loss", mode="min", options={"verify": False})
    _, logger = fit(callback, epochs=3)
    losses = [entry["val_loss"] for entry in logger.seen if "val_loss" in entry]
    lowest = [min(losses[: n + 1]) == loss for n, loss in enumerate(losses)]
    assert [attempt.best for attempt in callback.attempts] == lowest


def test_some_epochs(tmp_path: Path) -> None:
    callback = OptimizeCallback(tmp_path, every=3, keep="all", options={"verify": False})
    fit(callback, epochs=4)
    assert [attempt.epoch for attempt in callback.attempts] == [3, 4]
    assert (tmp_path / "epoch-0003.engine").exists()
    callback = OptimizeCallback(tmp_path, epochs=[2], options={"verify": False})
    fit(callback, epochs=4)
    assert [attempt.epoch for attempt in callback.attempts] == [2]


def test_a_new_training_forgets_the_engine_of_the_one_before(tmp_path: Path) -> None:
    fit(OptimizeCallback(tmp_path, options={"verify": False}))
    assert (tmp_path / "best.engine").exists()
    fit(OptimizeCallback(tmp_path, epochs=[9]), epochs=1)
    assert not (tmp_path / "best.engine").exists()


def test_a_failing_export_kills_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = OptimizeCallback(tmp_path)
    module, logger = fit(callback, module=Digits(deciding=True))
    assert module.trainer.state.finished
    assert [attempt.made for attempt in callback.attempts] == [False, False]
    assert caplog.text.count("no engine was made: ImportFailed") == 2
    assert [entry["infopt/made"] for entry in logger.seen if "infopt/made" in entry] == [0, 0]
    with pytest.raises(ImportFailed):
        fit(OptimizeCallback(tmp_path, on_error="raise"), module=Digits(deciding=True))


def test_mixed_precision_is_of_the_training_alone(tmp_path: Path) -> None:
    callback = OptimizeCallback(tmp_path)
    fit(callback, epochs=1, precision="bf16-mixed")
    (attempt,) = callback.attempts
    assert attempt.engine is not None
    assert attempt.engine.manifest.outputs[0].dtype == "float"
    assert attempt.metrics["infopt/max_error"] < 1e-4


def test_nonsense_is_an_error_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no wish 'precison'"):
        OptimizeCallback(tmp_path, precison="int8")  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="every must be"):
        OptimizeCallback(tmp_path, every=0)
    module = Digits()
    module.example_input_array = None
    with pytest.raises(UsageError, match="set its example_input_array, or give example_inputs"):
        fit(OptimizeCallback(tmp_path), module=module)
    callback = OptimizeCallback(tmp_path, example_inputs=(torch.zeros(3, 64),))
    fit(callback, module=module, epochs=1)
    assert callback.attempts[0].made


def test_a_trial_run_makes_none(tmp_path: Path) -> None:
    callback = OptimizeCallback(tmp_path)
    fit(callback, fast_dev_run=True)
    assert callback.attempts == []


_DISTRIBUTED = """
import sys
import lightning.pytorch as pl
from torch.utils.data import DataLoader, TensorDataset
from infopt.integrations.lightning import OptimizeCallback
from tests.support.training import digits
from tests.unit.integrations.test_lightning import Digits

if __name__ == "__main__":
    callback = OptimizeCallback(sys.argv[1])
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[callback],
    )
    rows, labels = digits()
    trainer.fit(Digits(), DataLoader(TensorDataset(rows, labels), 300))
    print("rank", trainer.global_rank, [it.made for it in callback.attempts], flush=True)
"""


@pytest.mark.slow
def test_in_several_processes_the_first_one_works(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(_DISTRIBUTED)
    command = [sys.executable, str(script), str(tmp_path / "engines")]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, cwd=root, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "rank 0 [True, True]" in done.stdout
    assert "rank 1 []" in done.stdout
    assert (tmp_path / "engines" / "best.engine").exists()


@pytest.mark.slow
def test_without_lightning_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['lightning'] = None\n"
        "import infopt, infopt.integrations\n"
        "try:\n    import infopt.integrations.lightning\n"
        "except infopt.InfoptError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "needs lightning" in done.stdout, done.stderr
    assert 'pip install "infopt[lightning]"' in done.stdout
