from __future__ import annotations

from pathlib import Path

import pytest

from infopt.passes import PASSES
from tests.cli.support import Run, document
from tests.support.confused import Confuse, chain


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return chain(tmp_path)


@pytest.fixture(autouse=True)
def confusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that breaks models is known by its name."""
    monkeypatch.setitem(PASSES, "confuse", Confuse)


PIPELINE = "eliminate-dead-code,confuse{spare=c},fold-constants"


def test_the_culprit_is_shown(infopt: Run, source: Path) -> None:
    result = infopt("bisect", source, "--pipeline", PIPELINE)
    assert result.exit_code == 1
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0].startswith("Guilty found in ")
    assert lines[1:4] == ["pass confuse{spare=c}", "rule sub-to-add", "node e"]
    assert "How far" in result.stdout
    assert "Searched" in result.stderr


def test_json(infopt: Run, source: Path) -> None:
    result = infopt("bisect", source, "--pipeline", PIPELINE, "--json")
    found = document(result)
    assert result.exit_code == 1
    assert found["culprit"] == {"step": "confuse{spare=c}", "rule": "sub-to-add", "node": "e"}
    assert found["tried"]
    assert found["equivalence"]["holds"] is False


def test_nothing_is_guilty(infopt: Run, model: Path) -> None:
    result = infopt("bisect", model)
    assert result.exit_code == 0
    assert result.stdout.startswith("Nothing is guilty  every output within 0.0001")


def test_a_pass_that_is_not_there(infopt: Run, model: Path) -> None:
    result = infopt("bisect", model, "--pipeline", "confus")
    assert result.exit_code == 2
    assert "did you mean 'confuse'?" in result.stderr
