"""The pages of the benchmarks say what their JSON says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kernels, peers
from benchmarks.report import Page

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"


@pytest.mark.parametrize(("name", "page"), [("kernels", kernels.page), ("peers", peers.page)])
def test_the_page_is_what_the_results_say(name: str, page: Callable[[Any], Page]) -> None:
    document = json.loads((DOCS / f"{name}.json").read_text())
    assert (DOCS / f"{name}.md").read_text() == page(document["results"]).render(document)


def test_every_cell_that_was_promised_is_there() -> None:
    document = json.loads((DOCS / "peers.json").read_text())
    rows = document["results"]["rows"]
    names = [subject.name for subject in peers._subjects()]
    assert [row["model"] for row in rows] == [name for name in names for _ in (1, 8)]
    assert all(row["largest_relative_error"] <= peers.LARGEST_ERROR for row in rows)
