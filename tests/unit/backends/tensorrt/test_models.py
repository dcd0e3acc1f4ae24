"""Pretrained models at every precision, from their file to one engine for three kinds of GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

import infopt
from benchmarks import data, models
from benchmarks.models import Feeds
from infopt.verification import BUDGETS

GPUS = {"fp32": "sm86", "fp16": "sm120", "int8": "sm86+sm89+sm120", "fp8": "sm89"}
TYPES = {"fp32": "float", "fp16": "half", "int8": "int8", "fp8": "fp8"}
"""Precision → the type, in TensorRT's words, that layers of the network have."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def _sentences(precision: str) -> list[Feeds]:
    """Lines of the design notes; for integers so many that SmoothQuant has seen enough of them."""
    notes = sorted((Path(__file__).parents[4] / "docs" / "design").glob("*.md"))
    lines = [line for note in notes for line in note.read_text(encoding="utf-8").splitlines()]
    wanted = [line for line in lines if len(line) > 60][: 90 if precision == "int8" else 12]
    return data.tokens(wanted, models.minilm(), 128)


def _waves(precision: str) -> list[Feeds]:
    """Smooth patterns, like pictures; on noise a classifier sees next to nothing."""
    del precision
    rng = np.random.default_rng(0)
    grid = np.linspace(0, 1, 224, dtype=np.float32)
    waves = [
        np.stack([np.sin(a * grid[:, None] + b * grid[None] + c) for c in (0, 1, 2)])
        for a, b in rng.uniform(-40, 40, (6, 2))
    ]
    batches = np.stack(waves).astype(np.float32).reshape(3, 2, 3, 224, 224)
    return [{"inputs": batch} for batch in batches]


MINILM = "input_ids=1..8x1..512@1x128"
LITE = "inputs=1..8x3x224x224@1x3x224x224"
SUBJECTS: Mapping[str, tuple[Callable[[Path], Path], Callable[[str], list[Feeds]], str]] = {
    "minilm": (models.minilm_exported, _sentences, MINILM),
    "efficientnet": (models.efficientnet_lite0_exported, _waves, LITE),
}
CELLS = [
    *(("minilm", precision) for precision in ("fp32", "fp16", "int8", "fp8")),
    *(("efficientnet", precision) for precision in ("fp32", "fp16", "int8")),
]


@pytest.mark.slow
@pytest.mark.usefixtures("rtx")
@pytest.mark.parametrize(("name", "precision"), CELLS)
def test_it_builds_and_keeps_to_its_budget(
    room: Path, tmp_path: Path, name: str, precision: str
) -> None:
    make, samples, shape = SUBJECTS[name]
    engine = infopt.optimize(
        make(room),
        tmp_path / "engine",
        target=f"tensorrt-rtx:{GPUS[precision]}",
        precision=precision,
        shapes=[shape],
        data=samples(precision),
        measure=False,
    )
    evidence = engine.manifest.evidence["equivalence"]
    assert evidence["holds"]
    for found in evidence["outputs"].values():
        assert float(found["max_relative"]) <= BUDGETS[precision].tolerance
        assert float(found["sqnr_db"]) >= BUDGETS[precision].least_sqnr
    build = engine.manifest.build
    assert "+".join(build["capabilities"]) == GPUS[precision]
    assert build["plan"]["bytes"] == engine.file("engine.plan").stat().st_size
    # What was asked for stands in the network that was built, in more than a few places.
    own = [count for layer, count in build["network"].items() if layer.endswith(TYPES[precision])]
    assert sum(own) >= 25
