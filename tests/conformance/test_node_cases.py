"""No operator that runs right untouched may break under any pass, nor under all in order."""

from __future__ import annotations

import functools

import pytest

from infopt.passes import PASSES
from infopt.passes.base import Preserves
from infopt.pipeline import Pipeline
from tests.support.calibrating import observe_on
from tests.support.models import run
from tests.support.node_cases import mismatch, subjects

APPROXIMATE = [n for n, each in PASSES.items() if each.preserves is Preserves.APPROXIMATE]
PIPELINES = {
    **{name: name for name in PASSES},
    **{name: f"calibrate,{name}" for name in APPROXIMATE},
    # With a limit that lets everything be folded that infopt can evaluate.
    "fold-constants/unlimited": "fold-constants{limit=1000000000}",
    # Products of any size.
    "quantize-dynamic/small": "quantize-dynamic{smallest=0}",
    "all-passes": ",".join(name for name in PASSES if name not in APPROXIMATE),
}
ILL_CONDITIONED = (
    "test_atanh",  # of a number beside 1
    "test_dynamicquantizelinear_expanded",  # rounds to integers
    "test_logsoftmax_large_number",  # of numbers that differ in their fifth digit
    "test_matmul_1d_3d",  # its terms cancel out
    "test_softmax_large_number",
)
"""Cases in which the roundings of an approximate pass become larger than roundings."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def broken(pipeline: Pipeline) -> tuple[dict[str, str], int]:
    """What breaks under a pipeline, and how many subjects it changed."""
    failures: dict[str, str] = {}
    changed = 0
    # An approximate pass rounds the inputs and the output of the one operator that there is.
    share = 4 * max(each.rounding for each in pipeline.passes())
    for subject in subjects():
        model = subject.model.clone()
        if share and subject.name.startswith(ILL_CONDITIONED):
            continue
        observe = functools.partial(observe_on, samples=[subject.inputs])
        if not any(part.changes for part in pipeline.run(model, observe=observe)):
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
