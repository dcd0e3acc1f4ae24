"""Which engine is the best, and what is remembered of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import onnx
import pytest

import infopt
from infopt.errors import OutputError, UsageError
from infopt.integrations import keeping
from infopt.integrations.keeping import Standing, standing
from tests.cli.support import perceptron


@pytest.mark.parametrize(
    ("score", "other", "mode", "better"),
    [
        (0.5, None, "max", True),
        (0.5, 0.4, "max", True),
        (0.5, 0.5, "max", False),
        (0.5, 0.4, "min", False),
        (0.3, 0.4, "min", True),
        (math.nan, 0.4, "max", False),
        (math.nan, None, "max", False),
        (0.1, math.nan, "min", False),
        (-math.inf, 0.0, "min", True),
    ],
)
def test_better(
    score: float, other: float | None, mode: Literal["max", "min"], *, better: bool
) -> None:
    before = None if other is None else Standing(1, "loss", other)
    assert Standing(2, "loss", score).beats(before, mode) is better


def test_scores_of_other_kinds_are_not_compared() -> None:
    assert Standing(2, "loss", 0.1).beats(Standing(1, "accuracy", 0.9), "max")
    assert Standing(2, None, None).beats(Standing(1, "accuracy", 0.9), "max")
    assert Standing(2, "loss", 0.1).beats(Standing(1, None, None), "max")


def test_the_score_is_found_by_name() -> None:
    assert standing(3, "val_loss", {"val_loss": 0.25}) == Standing(3, "val_loss", 0.25)
    assert standing(3, None, {"val_loss": 0.25}) == Standing(3, None, None)
    message = "no score 'val_los' to monitor; did you mean 'val_loss'.; known: epoch, val_loss"
    with pytest.raises(UsageError, match=message):
        standing(3, "val_los", {"val_loss": 0.25, "epoch": 3})


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    onnx.save(perceptron(), tmp_path / "model.onnx")
    made = infopt.optimize(
        tmp_path / "model.onnx", tmp_path / "scratch", verify=False, measure=False
    )
    return made.path


def _reference(tmp_path: Path) -> Path:
    place = tmp_path / "reference"
    place.mkdir()
    (place / "model.onnx").write_bytes((tmp_path / "model.onnx").read_bytes())
    return place


@pytest.mark.parametrize("score", [0.5, math.inf, None])
def test_what_is_kept_is_known_again(tmp_path: Path, engine: Path, score: float | None) -> None:
    room = tmp_path / "engines"
    room.mkdir()
    assert keeping.read(room) is None
    how = Standing(4, None if score is None else "infopt/metric", score)
    place = keeping.keep(engine, _reference(tmp_path), room, how)
    assert keeping.read(room) == how
    assert infopt.load(place).outputs
    assert (room / "best.reference/model.onnx").is_file()

    (room / "mine.txt").touch()
    keeping.forget(room)
    assert [each.name for each in room.iterdir()] == ["mine.txt"]
    keeping.forget(room)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"epoch": "x", "monitor": null, "score": 1}'])
def test_a_damaged_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "best.json").write_text(text)
    assert keeping.read(tmp_path) is None


def test_what_is_no_engine_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "best.engine").mkdir()
    (tmp_path / "best.engine" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="is not an engine"):
        keeping.forget(tmp_path)
    assert (tmp_path / "best.engine" / "thesis.tex").exists()


def test_a_score_of_zero_is_a_score(tmp_path: Path, engine: Path) -> None:
    room = tmp_path / "engines"
    room.mkdir()
    keeping.keep(engine, _reference(tmp_path), room, Standing(1, "loss", 0.0))
    found: Any = keeping.read(room)
    assert found.score == 0.0
