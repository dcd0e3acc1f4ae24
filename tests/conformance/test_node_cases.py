"""No operator that runs right untouched may break under any pass, nor under all in order."""

from __future__ import annotations

import pytest

from infopt.passes import PASSES
from infopt.passes.base import Preserves
from infopt.pipeline import Pipeline
from tests.support.models import run
from tests.support.node_cases import mismatch, subjects

PIPELINES = {
    **{name: name for name in PASSES},
    # With a limit that lets everything be folded that infopt can evaluate.
    "fold-constants/unlimited": "fold-constants{limit=1000000000}",
    "all-passes": ",".join(
        name for name, cls in PASSES.items() if cls.preserves is not Preserves.APPROXIMATE
    ),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def broken(pipeline: Pipeline) -> tuple[dict[str, str], int]:
    """What breaks under a pipeline, and how many subjects it changed."""
    failures: dict[str, str] = {}
    changed = 0
    # An approximate pass rounds the inputs and the output of the one operator that there is.
    share = 4 * max(each.rounding for each in pipeline.passes())
    for subject in subjects():
        model = subject.model.clone()
        if not any(part.changes for part in pipeline.run(model)):
            continue
        changed += 1
        try:
            problem = mismatch(subject.expected, run(model, subject.inputs), share=share)
        except Exception as error:
            problem = str(error).splitlines()[0]
            # What the runtime refuses with constants in place of inputs is not the pass's doing.
            try:
                run(subject.model, subject.inputs)
            except Exception:
                continue
        if problem is not None:
            failures[subject.name] = problem
    return failures, changed


def test_there_are_many_subjects() -> None:
    assert len(subjects()) > 2500


@pytest.mark.parametrize("name", PIPELINES)
def test_nothing_breaks(name: str) -> None:
    failures, changed = broken(Pipeline.parse(PIPELINES[name]))
    assert not failures
    if name in ("fold-constants/unlimited", "all-passes"):
        assert changed > 500
