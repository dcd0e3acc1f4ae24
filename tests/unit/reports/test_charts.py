from __future__ import annotations

import math
import re

import pytest

from tests.support.html import Element, read

pytest.importorskip("matplotlib")

from infopt.reports import charts


def _drawn(svg: str) -> Element:
    """The drawing, if it has no colours, ids or fonts of its own."""
    assert not re.findall(r"#[0-9a-f]{6}\b(?!-)", re.sub(r'"#c[^"]*"|url\([^)]*\)', "", svg))
    assert "http" not in svg
    assert "font-family" not in svg
    root = next(read(svg).all("svg"))
    ids = [e.attributes["id"] for e in root.all() if "id" in e.attributes]
    assert len(set(ids)) == len(ids)
    prefix = str(ids[0]).partition("-")[0]
    assert all(str(name).startswith(f"{prefix}-") for name in ids)
    assert root.attributes["viewbox"]
    return root


def _texts(root: Element) -> list[str]:
    return [text.text() for text in root.all("text")]


def test_a_spread_names_its_subjects_and_its_unit() -> None:
    svg = charts.spread({"original": [0.004, 0.005, 0.006], "engine": [0.003] * 9}, described="it")
    texts = _texts(_drawn(svg))
    assert {"original", "engine", "ms for one call"} <= set(texts)
    assert "var(--accent)" in svg
    assert "var(--second)" in svg


def test_short_times_and_single_rounds() -> None:
    assert "µs for one call" in _texts(_drawn(charts.spread({"a": [2e-5]}, described="it")))


def test_many_rounds_are_thinned_out() -> None:
    few = charts.spread({"a": [0.001 * n for n in range(1, 401)]}, described="it")
    many = charts.spread({"a": [0.001 * n for n in range(1, 9001)]}, described="it")
    assert len(many) < 1.1 * len(few)


@pytest.mark.parametrize(
    "name", ["$\\frac{$", "$x$ and $y$", "a\x00\x1b\ud800b", "<b>&amp;", "名前"]
)
def test_names_are_text_and_no_formula(name: str) -> None:
    root = _drawn(charts.spread({name: [0.1, 0.2]}, described=name))
    shown = re.sub(r"[\x00\x1b\ud800]", "?", name)
    assert shown in _texts(root)
    assert next(root.all("desc")).text() == shown


def test_errors_show_layers_the_limit_and_what_diverges() -> None:
    values = [(f"layer.{n // 8}", 1e-6 * (n + 1), False) for n in range(24)]
    values += [("layer.3", 0.5, True)] * 8
    svg = charts.errors(values, 1e-4, described="it")
    texts = _texts(_drawn(svg))
    assert {"layer.0", "layer.1", "layer.2", "layer.3", "0.0001", "1e-06"} <= set(texts)
    assert "var(--bad)" in svg


@pytest.mark.parametrize("error", [0.0, math.inf])
def test_errors_of_none_and_of_any_size(error: float) -> None:
    _drawn(charts.errors([("", error, error > 0)], 1e-4, described="it"))


@pytest.mark.parametrize(("tolerance", "shown"), [(0.0, []), (math.inf, []), (3e-4, ["0.0003"])])
def test_a_limit_without_a_place_on_the_axis_is_not_drawn(
    tolerance: float, shown: list[str]
) -> None:
    svg = charts.errors([("a", 1e-6, False), ("a", 1e-3, True)], tolerance, described="it")
    assert [text for text in _texts(_drawn(svg)) if text == f"{tolerance:.2g}"] == shown
    assert charts.is_drawn(tolerance) is bool(shown)


def test_two_drawings_on_one_page_share_no_ids() -> None:
    one = charts.spread({"a": [0.1]}, described="one")
    other = charts.spread({"a": [0.1]}, described="other")
    names = [set(re.findall(r'id="([^"]+)"', svg)) for svg in (one, other)]
    assert not names[0] & names[1]
    assert one == charts.spread({"a": [0.1]}, described="one")
