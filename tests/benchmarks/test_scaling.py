import json
from pathlib import Path
from typing import Any

import onnx

from benchmarks import scaling
from benchmarks.report import DOCS
from infopt.importers import import_model
from infopt.inspection import inspect_fusions
from infopt.ir import queries

ROOT = Path(__file__).parents[2]


def _results(*seconds: float) -> dict[str, Any]:
    sizes = scaling.SIZES[: len(seconds)]
    runs = {
        str(n): {"nodes": n, "runs": [{"seconds": t, "after": n // 2, "passes": {"a": t / 2}}] * 3}
        for n, t in zip(sizes, seconds, strict=True)
    }
    return {"load_before": 0.1, "sizes": runs}


def test_the_model_is_valid_and_as_large_as_it_says() -> None:
    proto = scaling.encoder(1_000)
    onnx.checker.check_model(proto, full_check=True)
    nodes = queries.count_nodes(import_model(proto).model)
    assert 1_000 <= nodes < 1_000 + 2 * scaling.LAYER


def test_its_layers_are_raised() -> None:
    found = inspect_fusions(scaling.encoder(3 * scaling.LAYER)).fusions
    gelus = [site.layer for site in found.sites if site.operator == "Gelu"]
    assert gelus == ["layer.0", "layer.1", "layer.2"]
    assert found.found("LayerNormalization") == 6


def test_a_measurement_becomes_a_page(tmp_path: Path) -> None:
    results = scaling.measure([100, 300], rounds=2)
    told = scaling.page(json.loads(json.dumps(results)))
    told.write(tmp_path)
    text = (tmp_path / "scaling.md").read_text()
    document = json.loads((tmp_path / "scaling.json").read_text())
    assert text == scaling.page(document["results"]).render(document)
    assert "| fuse-gelu |" in text


def test_limits_are_checked() -> None:
    assert scaling.missed(_results(0.1, 0.35, 1.3, 4.3)) == []
    assert scaling.missed(_results(1.5, 5.3, 19.0)) == ["10,000 nodes: 19.0 s, allowed 15 s"]
    quadratic = scaling.missed(_results(0.01, 0.09, 1.0, 9.0))
    assert [line.split(" allowed")[0] for line in quadratic] == [
        "3,000 nodes: growth 2.59,",
        "10,000 nodes: growth 7.50,",
        "30,000 nodes: growth 20.10,",
    ]


def test_the_page_is_what_its_figures_say() -> None:
    document = json.loads((ROOT / DOCS / "scaling.json").read_text())
    text = (ROOT / DOCS / "scaling.md").read_text()
    assert text == scaling.page(document["results"]).render(document)
    assert scaling.missed(document["results"]) == []
