"""Each pass does to each golden model what its file says."""

from __future__ import annotations

from pathlib import Path

import pytest

from infopt.passes import PASSES
from tests.support import golden


@pytest.mark.parametrize("path", golden.cases(), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_golden(path: Path, request: pytest.FixtureRequest) -> None:
    case = golden.Case.read(path)
    assert case.why, "a case says first why it exists"
    assert case.passes[-1] == path.parent.name
    actual = case.actual()
    if request.config.getoption("--update-golden"):
        actual.write()
        return
    assert actual.parts == case.parts


@pytest.mark.parametrize("name", PASSES)
def test_has_a_match_and_a_non_match(name: str) -> None:
    found = [golden.Case.read(path).matches for path in sorted((golden.ROOT / name).glob("*.txt"))]
    assert set(found) == {True, False}


def test_no_golden_folder_without_a_pass() -> None:
    assert {path.parent.name for path in golden.cases()} <= set(PASSES)
