"""The page of builds has every model, precision and GPU; what fails is a row of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks import builds
from benchmarks.builds_subjects import Subject, subjects
from benchmarks.models import Feeds
from benchmarks.report import Page
from infopt.backends import backend_for
from infopt.target import parse_target

RESULTS = Path(__file__).parents[2] / "docs" / "benchmarks" / "builds.json"

MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[n,64] x) => (float[n,64] y)
<float[64,64] w>
{
   y = MatMul (x, w)
}
"""
UNKNOWN = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[n,3,3] x) => (float[n] y)
{
   y = Det (x)
}
"""


@pytest.fixture(autouse=True)
def buildable(request: pytest.FixtureRequest) -> None:
    reason = backend_for(parse_target("tensorrt-rtx:sm89")).unbuildable()
    if reason is not None and "tmp_path" in request.fixturenames:
        pytest.skip(reason)


def _subject(text: str, file: Path, *shape: int) -> Subject:
    proto = onnx.parser.parse_model(text.replace("<float[64,64] w>", ""))
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((64, 64), np.float32)
    if "MatMul" in text:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    onnx.save(proto, file)

    def samples() -> Sequence[Feeds]:
        return [{"x": rng.standard_normal((4, *shape), np.float32)}]

    words = "x".join(map(str, shape))
    ranges = (f"x=1..8x{words}@4x{words}",)
    return Subject("Small", lambda _: file, ranges, samples, samples, transformer=True)


def _cells(found: Page) -> list[dict[str, str]]:
    _, header, lines = found.tables[0]
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_a_model_that_does_not_build_is_a_row_for_each_gpu(tmp_path: Path) -> None:
    subject = _subject(UNKNOWN, tmp_path / "model.onnx", 3, 3)
    rows = list(builds.measure(subject, "fp32", builds.GPUS, tmp_path))
    assert [row["gpu"] for row in rows] == list(builds.GPUS)
    assert all("Det at " in row["failed"] for row in rows)
    assert not any(map(builds.within, rows))
    found = builds.page({"rows": rows})
    (cells,) = _cells(found)
    assert {cells[f"Build {gpu}, s"] for gpu in builds.GPUS} == {"**failed**"}
    assert cells["Within"] == "**no**"
    assert [line[2] for line in found.tables[1][2]] == list(builds.GPUS)


def test_a_gpu_that_fails_costs_no_other(tmp_path: Path) -> None:
    subject = _subject(MODEL, tmp_path / "model.onnx", 64)
    old, new = builds.measure(subject, "fp8", ("sm86", "sm89"), tmp_path)
    assert "leave out sm86" in old["failed"]
    assert new["bytes"] > 1000
    assert new["sqnr_db"] > 8
    assert builds.within(new)
    (cells,) = _cells(builds.page({"rows": [old, new]}))
    assert cells["Build sm86, s"] == "**failed**"
    assert cells["Build sm89, s"] != "**failed**"
    assert cells["Within"] == "**no**"


@pytest.mark.parametrize(
    ("precision", "error", "sqnr", "holds"),
    [
        ("fp32", 5e-7, 120.0, True),
        ("fp32", 0.0, "inf", True),
        ("fp32", 2e-3, 120.0, False),
        ("fp16", 0.3, 36.0, True),
        ("fp16", 0.3, 34.0, False),
        ("int8", "inf", "-inf", False),
    ],
)
def test_a_row_is_held_to_the_budget(
    precision: str, error: float | str, sqnr: float | str, holds: bool
) -> None:
    assert builds.within({"precision": precision, "error": error, "sqnr_db": sqnr}) is holds


def test_the_page_says_what_it_lacks_and_every_figure_is_within_its_budget() -> None:
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["results"]["rows"]
    wanted = [
        (subject.name, precision, gpu)
        for subject in subjects()
        for precision, gpus in builds.precisions(subject)
        for gpu in gpus
    ]
    absent = builds.missing(rows)
    taken = [cell for cell in wanted if cell[:2] not in absent]
    assert [(row["model"], row["precision"], row["gpu"]) for row in rows] == taken
    page = RESULTS.with_suffix(".md").read_text()
    assert all(name in page.partition("## Not taken yet")[2] for name, _ in absent)
    assert [row for row in rows if not builds.within(row)] == []
