"""The pages of the benchmarks say what their JSON says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import builds, gates, gpu_page, kernels, observers, peers, precision, weights
from benchmarks.report import Page
from benchmarks.sidebyside import page as sidebyside

DOCS = Path(__file__).parents[2] / "docs" / "benchmarks"


PAGES = {
    "builds": builds.page,
    "gates": gates.page,
    "gpu": gpu_page.page,
    "kernels": kernels.page,
    "observers": observers.page,
    "peers": peers.page,
    "precision": precision.page,
    "sidebyside": sidebyside.page,
    "weights": weights.page,
}


@pytest.mark.parametrize(("name", "page"), PAGES.items())
def test_the_page_is_what_the_results_say(name: str, page: Callable[[Any], Page]) -> None:
    document = json.loads((DOCS / f"{name}.json").read_text())
    assert (DOCS / f"{name}.md").read_text() == page(document["results"]).render(document)
