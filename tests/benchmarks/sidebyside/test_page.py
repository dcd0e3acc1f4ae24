from typing import Any

import pytest

from benchmarks.sidebyside.page import page
from tests.benchmarks.sidebyside.results import model, peer, results


@pytest.fixture
def found() -> dict[str, Any]:
    return results(
        model(
            "MiniLM",
            "embedding",
            ORT_default=peer(a=1.0, b=1.0),
            OpenVINO_NNCF_int8=peer(0.1, a=3.0, b=1.1),
            Olive_int8=peer(failed="ValueError: no | such\nthing " + "x" * 200),
            infopt=peer(a=1.1, b=1.2),
            infopt_int8=peer(0.05, a=1.5, b=2.2),
        ),
        {"model": "BERT", "failed": "not taken: the time was spent"},
    )


def _document(results: object) -> dict[str, Any]:
    machine = {"processor": "A processor", "cores": 2, "system": "Linux"}
    return {"date": "2026-01-02", "hardware": machine, "versions": {}, "results": results}


def _table(text: str, caption: str) -> list[list[str]]:
    lines = text.split(f"## {caption}")[1].split("\n## ")[0].splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]


def test_the_page_says_first_where_infopt_loses_and_to_what(found: dict[str, Any]) -> None:
    text = page(found).render(_document(found))
    assert "leads or ties every peer on ONNX Runtime, at equal or lower error, in 2 of 2" in text
    assert "the interval of the ratio" not in text
    assert "farthest ahead: OpenVINO NNCF int8 (1)." in text
    header, _, first, second = _table(text, "Where infopt is behind first")
    assert first[:3] == ["MiniLM", "64 tokens", "1"]
    theirs, ours = "OpenVINO NNCF int8", "infopt int8"
    assert first[-5:] == [theirs, "3.00", ours, "1.50", "**0.50** (0.50-0.50)"]
    assert second[-5:] == [theirs, "1.10", ours, "2.20", "2.00 (1.98-2.02)"]
    assert len(header) == len(first)


def test_a_loss_that_may_be_a_tie_is_told_from_one_that_is_not() -> None:
    found = results(
        model(
            "m",
            ORT_default=peer(a=1.0, b=1.0),
            onnxslim=peer(a=1.03, b=1.2),
            infopt=peer(a=1.0, b=1.0),
        )
    )
    text = page(found).render(_document(found))
    assert "in 0 of 2 cells" in text
    assert "In 1 of the others the interval of the ratio reaches 0.98." in text
    rows = _table(text, "Where infopt is behind first")
    assert [row[7] for row in rows[2:]] == ["**0.83** (0.82-0.84)", "**0.97** (0.96-0.98)"]


def test_a_missed_goal_is_named(found: dict[str, Any]) -> None:
    found["models"][0]["peers"]["infopt"] = peer(failed="it broke")
    found["models"][0]["peers"]["infopt int8"] = peer(failed="it broke")
    text = page(found).render(_document(found))
    assert "in 0 of 2 cells (**the goal is missed**: 90%)" in text


def test_an_error_is_the_text_of_the_cell(found: dict[str, Any]) -> None:
    found["models"][0]["peers"]["infopt"]["cells"].pop("b")
    found["models"][0]["peers"]["infopt"]["failed"]["b"] = "PeerFailed: did not answer"
    rows = {row[0]: row for row in _table(page(found).render(_document(found)), "MiniLM")}
    assert rows["Olive int8"][1].startswith("ValueError: no / such thing xxx")
    assert rows["Olive int8"][1].endswith("…")
    assert rows["**infopt**"][3] == "1.10 (1.09-1.11)"
    assert rows["**infopt**"][4] == "PeerFailed: did not answer"
    assert rows["noise"][3:5] == ["1.0%", "2.0%"]
    assert len({len(row) for row in rows.values()}) == 1


def test_a_model_without_results_says_why(found: dict[str, Any]) -> None:
    text = page(found).render(_document(found))
    assert _table(text, "BERT")[-1] == ["BERT", "not taken: the time was spent"]


def test_a_model_says_when_where_and_how_it_was_timed(found: dict[str, Any]) -> None:
    heading = "## MiniLM, 91.0 MB, kept: embedding; 2026-11-24, 2 cores of A processor"
    text = page(found).render(_document(found))
    assert f"{heading} that saturates int8; ratios of medians\n" in text
    found["models"][0]["hardware"] = {**found["models"][0]["hardware"], "saturates": False}
    found["models"][0]["peers"]["infopt"]["cells"]["a"]["passes"] = [[1.0, 1.1]]
    assert f"{heading}\n" in page(found).render(_document(found))


def test_figures_and_sizes_are_shown(found: dict[str, Any]) -> None:
    rows = {row[0]: row for row in _table(page(found).render(_document(found)), "MiniLM")}
    assert rows["ORT default"][-4:] == ["1.2 s", "300 MB", "200 MB", "90.0 MB"]
    assert rows["ORT default"][1:3] == ["1.0e-06", "0.5000"]


def test_recipes_link_to_what_they_follow(found: dict[str, Any]) -> None:
    rows = {row[0]: row for row in _table(page(found).render(_document(found)), "Recipes")}
    assert set(rows) - {"Peer", "---"} == set(found["peers"])
    assert rows["OpenVINO NNCF int8"][2].startswith("[page](https://docs.openvino.ai/")
    assert rows["infopt"][2] == "[page](../../README.md)"


def test_there_is_a_picture_for_each_batch_size(found: dict[str, Any]) -> None:
    text = page(found).render(_document(found))
    assert "(sidebyside-1.svg)" in text
    assert "(sidebyside-8.svg)" in text


def test_versions_are_those_of_the_environments(found: dict[str, Any]) -> None:
    versions = page(found).extra_versions
    assert versions["onnxruntime (onnxruntime)"] == "1.31.1"
    assert {"openvino (openvino)", "nncf (openvino)", "olive-ai (olive)"} <= set(versions)


def test_without_a_cell_nobody_is_ahead() -> None:
    none = results({"model": "BERT", "failed": "not taken: the time was spent"})
    assert "\n\nNothing was timed.\n\n" in page(none).render(_document(none))
