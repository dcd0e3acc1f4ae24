"""Reports of real engines, comparisons, benchmarks; and of a check's document."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import infopt
from infopt.errors import UnavailableError, UsageError
from infopt.reports import page, pages
from infopt.verification import BUDGETS
from tests.support.confused import BROKEN, chain
from tests.support.html import Element, check_page
from tests.support.stacked import network

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

HOSTILE = "<img src=x onerror=alert(1)>$\\frac{"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(network(), tmp_path / "network.onnx")
    return tmp_path / "network.onnx"


def _data(count: int = 12) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(2)
    return [{"x": rng.standard_normal((16, 8)).astype(np.float32)} for _ in range(count)]


def _mixed(model: Path, engine: Path, **options: Any) -> infopt.Engine:
    """An engine of integers with a budget."""
    return infopt.optimize(
        model, engine, precision="int8", data=_data(), max_error="30dB", measure=False, **options
    )


def _read(file: Path) -> Element:
    return check_page(file.read_text(encoding="utf-8"))


def _tables(root: Element) -> dict[str, list[list[str]]]:
    """Caption → rows."""
    return {
        next(table.all("caption")).text(): [
            [cell.text() for cell in row.all("th", "td")]
            for row in next(table.all("tbody")).all("tr")
        ]
        for table in root.all("table")
    }


def _verdicts(root: Element) -> dict[str, str]:
    listed = next(e for e in root.all("dl") if e.attributes.get("class") == "verdicts")
    terms, words = listed.all("dt"), listed.all("dd")
    return {term.text(): word.text() for term, word in zip(terms, words, strict=True)}


def test_of_an_engine(model: Path, tmp_path: Path) -> None:
    infopt.optimize(model, tmp_path / "e", report=tmp_path / "report.html")
    root = _read(tmp_path / "report.html")
    assert next(root.all("h1")).text() == "Engine e"
    verdicts = _verdicts(root)
    assert verdicts["How exact"].startswith("✓ within 0.0001")
    assert "×" in verdicts["How fast"]
    tables = _tables(root)
    assert tables["The engine, allowed: 0.0001"][0][0] == "y"
    assert [row[0] for row in tables["Error of each layer"]] == [f"layer.{n}" for n in range(6)]
    assert {row[-1] for row in tables["Error of each layer"]} == {"within"}
    assert tables["Time by operator"]
    assert tables["The slowest nodes"][0][-1].startswith("layer.")
    assert tables["What each pass did"]
    before = {row[0]: row[1:] for row in tables["Operators before and after"]}
    assert before["MatMul"][0] == "6"
    assert tables["Products with weights, by the type in which these are stored"][0][1] == "1"
    shown = {row[0]: row[1] for row in tables["What was shown, and what was not"]}
    assert shown["Outputs against the original"] == "✓ measured"
    assert shown["Time of each node"] == "✓ measured"
    assert len(list(root.all("svg"))) == 2


def test_of_an_engine_of_integers(model: Path, tmp_path: Path) -> None:
    _mixed(model, tmp_path / "e", report=tmp_path / "report.html")
    root = _read(tmp_path / "report.html")
    tables = _tables(root)
    assert "int8" in next(
        [head.text() for head in table.all("th")]
        for table in root.all("table")
        if "Products with weights" in table.text()
    )
    assert any("quantized products run on integers" in p.text() for p in root.all("p"))
    assert any("values were calibrated on 12 samples" in p.text() for p in root.all("p"))
    shown = {row[0]: row[1:] for row in tables["What was shown, and what was not"]}
    assert shown["Speed beside the original"][0] == "not measured"


def test_what_was_not_measured_says_so(model: Path, tmp_path: Path) -> None:
    infopt.optimize(model, tmp_path / "e", verify=False, report=tmp_path / "report.html")
    root = _read(tmp_path / "report.html")
    assert _verdicts(root)["How exact"] == "not measured verification was switched off"
    shown = {row[0]: row[1:] for row in _tables(root)["What was shown, and what was not"]}
    for what in ("Outputs against the original", "The layers inside", "Time of each node"):
        assert shown[what] == ["not measured", "verification was switched off"]
    assert not list(root.all("svg"))


def test_of_an_engine_for_a_device_that_is_not_here(model: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(
        model, tmp_path / "e", target="onnxruntime:cuda", report=tmp_path / "report.html"
    )
    if "target" not in engine.manifest.evidence:
        pytest.skip("there is a GPU")
    shown = {
        row[0]: row[1:]
        for row in _tables(_read(tmp_path / "report.html"))["What was shown, and what was not"]
    }
    assert shown["The layers inside"][0] == "✓ measured"
    for what in ("Speed beside the original", "Time of each node", "The target itself"):
        assert shown[what][0] == "not measured"
        assert shown[what][1]


def test_of_an_engine_that_was_forced(tmp_path: Path) -> None:
    infopt.optimize(
        chain(tmp_path),
        tmp_path / "e",
        pipeline=BROKEN,
        force=True,
        measure=False,
        report=tmp_path / "report.html",
    )
    root = _read(tmp_path / "report.html")
    assert _verdicts(root)["How exact"].startswith("✗ ")
    texts = [p.text() for p in root.all("p")]
    assert "Guilty: confuse{spare=c}, rule sub-to-add at e." in texts
    assert any("part ways at e (Sub)" in text for text in texts)


def test_names_of_a_hostile_model_are_text(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 18]>
        g (float[n,4] x) => (float[n,4] y) <float[4,4] w, float[4] b>
        { a = MatMul(x, w) c = Add(a, b) y = Relu(c) }""")
    del proto.graph.initializer[:]
    for name, shape in (("w", (4, 4)), ("b", (4,))):
        array = np.ones(shape, np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    for node in proto.graph.node:
        node.name = f"layers.0/{HOSTILE}{node.op_type}"
    onnx.save(proto, tmp_path / "m.onnx")
    infopt.optimize(tmp_path / "m.onnx", tmp_path / "e", report=tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    root = check_page(text)
    assert "<img" not in text
    assert HOSTILE in root.text()


def test_nothing_is_done_for_a_report_that_cannot_be_written(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise UnavailableError(page.MISSING)

    monkeypatch.setattr(page, "matplotlib", missing)
    with pytest.raises(UnavailableError, match=r"infopt\[report\]"):
        infopt.optimize(model, tmp_path / "e", report=tmp_path / "report.html")
    assert not (tmp_path / "e").exists()


def test_of_a_comparison(model: Path, tmp_path: Path) -> None:
    onnx.save(network(3), tmp_path / "broken.onnx")
    infopt.compare_layers(tmp_path / "broken.onnx", model, report=tmp_path / "report.html")
    root = _read(tmp_path / "report.html")
    assert next(root.all("h1")).text() == "broken.onnx beside network.onnx"
    assert _verdicts(root)["Where they part"].startswith("layer.3 relative error 1.0e-02")
    rows = {row[0]: row[-1] for row in _tables(root)["Error of each layer"]}
    assert rows == {f"layer.{n}": "within" if n < 3 else "diverges" for n in range(6)}


def test_of_a_comparison_without_a_difference(model: Path, tmp_path: Path) -> None:
    infopt.compare_layers(model, model, report=tmp_path / "report.html")
    root = _read(tmp_path / "report.html")
    assert _verdicts(root)["Where they part"] == "nowhere inside"


def test_a_runtime_that_is_guilty_is_named(model: Path) -> None:
    found = infopt.compare_layers(model, model).as_dict()
    found.update(holds=False, failing=[0])
    root = check_page(pages.comparison_page(found).html())
    assert "the runtime's own optimizations are guilty" in root.text()


def test_of_a_comparison_in_which_nothing_matches(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infopt.layerwise.comparing.match", lambda reference, candidate: [])
    with pytest.raises(UsageError, match="can be matched"):
        infopt.compare_layers(model, model)
    found = infopt.compare_layers(model, model, required=False)
    root = check_page(pages.comparison_page(found.as_dict()).html())
    assert not found.only_the_runtime
    assert _verdicts(root)["Where they part"].startswith("not measured")
    assert "guilty" not in root.text()


def test_what_was_asked_is_told_as_it_was_asked(model: Path, tmp_path: Path) -> None:
    _mixed(model, tmp_path / "e", shapes=["x=32x8"], report=tmp_path / "report.html")
    root = _read(tmp_path / "report.html")
    asked: dict[str, str] = {}
    for listed in root.all("dl"):
        terms, words = listed.all("dt"), listed.all("dd")
        asked |= {t.text(): w.text() for t, w in zip(terms, words, strict=True)}
    assert asked["Sizes"] == "x=32x8"
    assert asked["Budget"] == "30 dB"
    assert "Profiles" not in asked


def test_a_budget_that_was_not_held_says_so(model: Path, tmp_path: Path) -> None:
    engine = _mixed(model, tmp_path / "e")
    mixed = {**engine.manifest.evidence["mixed"], "holds": False}
    evidence = {**engine.manifest.evidence, "mixed": mixed}
    manifest = dataclasses.replace(engine.manifest, evidence=evidence)
    found = pages.engine_page(dataclasses.replace(engine, manifest=manifest), {}, {})
    assert "not held even with all" in check_page(found.html()).text()


def test_of_a_benchmark(model: Path, tmp_path: Path) -> None:
    onnx.save(network(3), tmp_path / "other.onnx")
    infopt.benchmark(
        model, tmp_path / "other.onnx", seconds=0.2, shapes=["n=1..64"], report=tmp_path / "r.html"
    )
    root = _read(tmp_path / "r.html")
    assert next(root.all("h1")).text() == "other.onnx beside network.onnx"
    assert next(row[-1] for row in _tables(root)["At x=64×8"]) == "baseline"
    assert len(list(root.all("svg"))) == 2
    assert _verdicts(root)["other.onnx"]


def test_of_a_benchmark_of_what_they_need(model: Path, tmp_path: Path) -> None:
    infopt.optimize(model, tmp_path / "e", measure=False)
    infopt.benchmark(
        model,
        tmp_path / "e",
        seconds=0.1,
        concurrency=2,
        price_per_hour=1.2,
        report=tmp_path / "r.html",
    )
    rows = _tables(_read(tmp_path / "r.html"))["In files, in time, and in memory"]
    assert [row[0] for row in rows] == [str(model), str(tmp_path / "e")]
    assert all("B" in row[1] for row in rows)
    assert rows[0][2] == "–"  # nobody built the model


def test_of_a_benchmark_of_one(model: Path, tmp_path: Path) -> None:
    infopt.benchmark(model, seconds=0.1, report=tmp_path / "r.html")
    assert "Median" in _verdicts(_read(tmp_path / "r.html"))


FINDINGS: dict[str, Any] = {
    "subject": "models/e",
    "baseline": "baseline.json",
    "holds": False,
    "verdict": "worse",
    "findings": [
        {
            "name": "latency",
            "verdict": "worse",
            "sentence": "10 % slower",
            "was": "1.0",
            "now": "1.1",
        },
        {"name": "size", "verdict": "worse", "sentence": "twice", "allowed": True},
        {"name": "memory", "verdict": "inconclusive", "sentence": HOSTILE, "limit": "5 %"},
    ],
    "notes": ["on another machine"],
    "seconds": 12.0,
}


def test_of_a_check() -> None:
    root = check_page(pages.check_page(FINDINGS).html())
    assert next(root.all("h1")).text() == "Check of e"
    assert _verdicts(root) == {
        "The gate": "✗ failed worse",
        "Worse": "1 of 3",
        "Inconclusive": "1 of 3",
    }
    rows = _tables(root)["The findings"]
    assert rows[0] == ["latency", "worse", "1.0", "1.1", "–", "10 % slower"]
    assert rows[1][1] == "worse, allowed"
    assert rows[2][-1] == HOSTILE
    held = pages.check_page({**FINDINGS, "holds": True, "verdict": "same", "findings": []})
    assert _verdicts(check_page(held.html()))["The gate"] == "✓ passed same"


def test_the_limit_inside_is_that_of_the_outputs() -> None:
    from infopt.reports.inside import limit_inside

    assert limit_inside(BUDGETS["fp32"]) == 1e-4
    assert limit_inside(BUDGETS["int8"]) == pytest.approx(10**-0.5)
