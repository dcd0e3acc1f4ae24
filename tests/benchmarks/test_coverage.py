"""The coverage page says what raising finds today."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.coverage import page
from benchmarks.coverage.families import FAMILIES, cells, find
from benchmarks.coverage.matrix import evaluate

DOCUMENT: dict[str, Any] = json.loads(page.JSON.read_text())
CELLS: dict[str, Any] = {cell["cell"]: cell for cell in DOCUMENT["cells"]}

AGAIN = (
    "bert-dynamo-sdpa-mask",
    "llama-dynamo-sdpa-mask",
    "llama-dynamo-eager-plain",
    "llama-cached-dynamo-sdpa-mask",
    "llama-cached-torchscript-eager-mask",
    "gpt2-cached-torchscript-sdpa-plain",
    "glm-dynamo-sdpa-plain",
    "t5-decoder-dynamo-sdpa-mask",
    "deberta-v2-torchscript-eager-mask",
    "gemma2-torchscript-eager-mask",
    "gpt2-torchscript-sdpa-mask",
    "gptj-torchscript-eager-mask",
    "llama-torchscript-eager-mask",
    "mobilenet-v2-torchscript-none-plain",
    "opt-torchscript-sdpa-plain",
    "modernbert-torchscript-sdpa-mask",
    "phi-torchscript-eager-mask",
    "qwen3-torchscript-sdpa-mask",
    "segformer-torchscript-sdpa-plain",
    "swin-torchscript-sdpa-plain",
    "t5-decoder-torchscript-eager-mask",
    "whisper-encoder-torchscript-sdpa-plain",
)
"""Cells that are made again: both exporters, and every kind of mask, norm and activation."""


def test_the_page_is_what_the_results_say() -> None:
    assert page.PAGE.read_text() == page.render(DOCUMENT)


def test_every_cell_is_there() -> None:
    assert list(CELLS) == [cell.name for family in FAMILIES for cell in cells(family)]
    for family in FAMILIES:
        for cell in cells(family):
            assert CELLS[cell.name]["expected"] == dict(family.expected)


def test_nearly_everything_is_found_and_nothing_is_wrong() -> None:
    found, expected = page.totals(DOCUMENT["cells"])
    assert found >= 0.97 * expected
    assert all(cell["difference"] <= 1e-4 for cell in CELLS.values())


def test_every_miss_has_a_reason() -> None:
    for cell in CELLS.values():
        if not cell["error"] and cell["found"] != cell["expected"]:
            assert cell["misses"], cell["cell"]


@pytest.mark.slow
@pytest.mark.parametrize("name", AGAIN)
def test_the_results_are_those_of_today(name: str, tmp_path: Path) -> None:
    result = evaluate(find(name), tmp_path)
    known = CELLS[name]
    assert not result.error
    assert dict(result.found) == known["found"]
    assert list(result.nodes) == known["nodes"]
    assert result.difference <= 1e-4
    assert math.isfinite(result.difference)
