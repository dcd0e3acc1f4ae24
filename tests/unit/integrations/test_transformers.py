"""The callback in real trainings with the Trainer of transformers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import infopt
from infopt.errors import UsageError
from infopt.integrations.transformers import OptimizeCallback

Row = dict[str, Any]


def rows(count: int, seed: int) -> list[Row]:
    """Texts of different lengths; the label is whether the first token is an even one."""
    rng = np.random.default_rng(seed)
    texts = [rng.integers(5, 60, rng.integers(4, 12)).tolist() for _ in range(count)]
    return [
        {"input_ids": text, "attention_mask": [1] * len(text), "labels": text[0] % 2}
        for text in texts
    ]


def collate(given: list[Row]) -> dict[str, torch.Tensor]:
    """Rows, filled up to the longest."""
    longest = max(len(row["input_ids"]) for row in given)
    batch = {
        name: torch.tensor([row[name] + [0] * (longest - len(row[name])) for row in given])
        for name in ("input_ids", "attention_mask")
    }
    return {**batch, "labels": torch.tensor([row["labels"] for row in given])}


def model() -> Any:
    torch.manual_seed(0)
    config: Any = transformers.BertConfig(
        vocab_size=64,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    config.num_labels = 2
    return transformers.BertForSequenceClassification(config)


class Heard(transformers.TrainerCallback):
    """A logger."""

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.logs.append(dict(logs))


def trainer(room: Path, epochs: int = 2, **options: Any) -> tuple[Any, Heard]:
    transformers.set_seed(0)
    heard = Heard()
    made = transformers.Trainer(
        options.pop("model", None) or model(),
        transformers.TrainingArguments(
            output_dir=str(room / "checkpoints"),
            num_train_epochs=epochs,
            per_device_train_batch_size=16,
            save_strategy="no",
            logging_strategy="epoch",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
            **{"eval_strategy": "epoch", **options},
        ),
        data_collator=collate,
        train_dataset=rows(64, 0),
        eval_dataset=rows(32, 1),
        callbacks=[heard],
    )
    return made, heard


def test_a_training_gives_an_engine(tmp_path: Path) -> None:
    made, heard = trainer(tmp_path)
    callback = OptimizeCallback(tmp_path / "engines").attach(made)
    made.train()
    assert [(attempt.epoch, attempt.made) for attempt in callback.attempts] == [
        (1, True),
        (2, True),
    ]
    told = [entry for entry in heard.logs if "infopt/made" in entry]
    assert [entry["epoch"] for entry in told] == [1.0, 2.0]
    assert all(entry["infopt/max_error"] < 1e-4 for entry in told)

    # Of the last epoch, since nothing is monitored: texts of any number and length.
    session = infopt.load(tmp_path / "engines" / "best.engine")
    assert [spec.shape for spec in session.inputs] == [("batch", "sequence")] * 2
    batch = collate(rows(5, 2))
    labels = batch.pop("labels")
    with torch.no_grad():
        expected = made.model.eval()(**batch).logits.numpy()
    found = session({name: tensor.numpy() for name, tensor in batch.items()})["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (len(labels), 2)


def test_it_trains_as_without(tmp_path: Path) -> None:
    alone, _ = trainer(tmp_path / "alone")
    alone.train()
    beside, _ = trainer(tmp_path / "beside")
    OptimizeCallback(tmp_path / "engines").attach(beside)
    beside.train()
    states = alone.model.state_dict(), beside.model.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_the_evaluation_can_be_monitored(tmp_path: Path) -> None:
    made, heard = trainer(tmp_path, epochs=3)
    callback = OptimizeCallback(
        tmp_path / "engines", monitor="eval_loss", mode="min", options={"verify": False}
    ).attach(made)
    made.train()
    losses = [entry["eval_loss"] for entry in heard.logs if "eval_loss" in entry]
    lowest = [min(losses[: n + 1]) == loss for n, loss in enumerate(losses)]
    assert len(losses) == 3
    assert [attempt.best for attempt in callback.attempts] == lowest
    # Evaluated by hand, afterwards: that is no epoch.
    made.evaluate()
    assert len(callback.attempts) == 3


def test_without_an_evaluation_and_without_a_trainer(tmp_path: Path) -> None:
    made, heard = trainer(tmp_path, eval_strategy="no")
    callback = OptimizeCallback(tmp_path / "engines", epochs=[2], options={"verify": False})
    made.add_callback(callback)
    made.train()
    assert [attempt.epoch for attempt in callback.attempts] == [2]
    assert not any("infopt/made" in entry for entry in heard.logs)
    (entry,) = (entry for entry in made.state.log_history if "infopt/made" in entry)
    assert entry["infopt/made"] == 1.0
    assert entry["epoch"] == 2.0


class Deciding(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = model()

    def forward(self, input_ids: Any, attention_mask: Any, labels: Any = None) -> Any:
        if input_ids.sum() < 0:
            raise ValueError
        return self.inner(input_ids, attention_mask, labels=labels)


def test_a_failing_export_kills_no_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, heard = trainer(tmp_path, model=Deciding())
    callback = OptimizeCallback(tmp_path / "engines").attach(made)
    made.train()
    assert made.state.global_step == 8
    assert [attempt.made for attempt in callback.attempts] == [False, False]
    assert caplog.text.count("no engine was made") == 2
    assert [log["infopt/made"] for log in heard.logs if "infopt/made" in log] == [0.0, 0.0]
    made, _ = trainer(tmp_path, model=Deciding())
    OptimizeCallback(tmp_path / "engines", on_error="raise").attach(made)
    with pytest.raises(infopt.InfoptError):
        made.train()


class Stream(torch.utils.data.IterableDataset[Row]):
    def __iter__(self) -> Any:
        return iter(rows(64, 0))


def test_data_without_rows_needs_example_inputs(tmp_path: Path) -> None:
    made, _ = trainer(tmp_path, max_steps=4, eval_strategy="no")
    made.train_dataset = Stream()
    OptimizeCallback(tmp_path / "engines").attach(made)
    with pytest.raises(UsageError, match="give example_inputs"):
        made.train()
    assert made.state.global_step == 0

    made, _ = trainer(tmp_path, max_steps=4, eval_strategy="no")
    made.train_dataset = Stream()
    example = {key: value for key, value in collate(rows(2, 3)).items() if key != "labels"}
    callback = OptimizeCallback(tmp_path / "engines", example_inputs=example).attach(made)
    made.train()
    assert [attempt.made for attempt in callback.attempts] == [True]


def test_a_new_training_forgets_the_engine_of_the_one_before(tmp_path: Path) -> None:
    made, _ = trainer(tmp_path, epochs=1)
    OptimizeCallback(tmp_path / "engines", options={"verify": False}).attach(made)
    made.train()
    assert (tmp_path / "engines" / "best.engine").exists()
    made, _ = trainer(tmp_path, epochs=1)
    OptimizeCallback(tmp_path / "engines", epochs=[9]).attach(made)
    made.train()
    assert not (tmp_path / "engines" / "best.engine").exists()


@pytest.mark.slow
def test_without_transformers_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['transformers'] = None\n"
        "import infopt\n"
        "try:\n    import infopt.integrations.transformers\n"
        "except infopt.InfoptError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert 'pip install "infopt[transformers]"' in done.stdout, done.stderr


def test_importing_infopt_imports_none_of_them() -> None:
    code = "import sys, infopt, infopt.cli, infopt.integrations; print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "lightning", "transformers", "accelerate", "onnxruntime"}
