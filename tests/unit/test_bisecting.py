from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import infopt
from infopt.errors import UsageError, VerificationError
from infopt.events import Event
from tests.support.confused import BROKEN, chain


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return chain(tmp_path)


def test_the_guilty_change_is_the_one_that_verification_names(
    source: Path,
    tmp_path: Path,
) -> None:
    events: list[Event] = []
    found = infopt.bisect(source, pipeline=BROKEN, on_event=events.append)
    assert found.culprit is not None
    assert (found.culprit.rule, found.culprit.node) == ("sub-to-add", "e")
    assert not found.equivalence.holds
    assert found.tried == tuple(event.detail for event in events if event.stage == "bisect")
    with pytest.raises(VerificationError) as caught:
        infopt.optimize(source, tmp_path / "e", pipeline=BROKEN)
    assert f"Guilty: {found.culprit}" in str(caught.value)
    assert found.as_dict()["culprit"]["step"] == "confuse{spare=c}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chain.onnx"]


def test_nobody_is_guilty_of_nothing(source: Path) -> None:
    found = infopt.bisect(source)
    assert found.culprit is None
    assert found.tried == ()
    assert found.equivalence.holds
    assert found.as_dict()["culprit"] is None


def test_what_is_allowed_is_not_guilty(source: Path) -> None:
    assert infopt.bisect(source, pipeline=BROKEN, tolerance=10.0).culprit is None


def test_a_calibrating_pipeline_is_searched_on_what_was_observed(
    source: Path,
) -> None:
    data = [{"x": np.full((2, 4), float(number), np.float32)} for number in range(4)]
    found = infopt.bisect(source, precision="int8", data=data)
    assert found.culprit is None
    assert "calibrate" in found.pipeline
    with pytest.raises(UsageError, match="give real inputs"):
        infopt.bisect(source, precision="int8")
