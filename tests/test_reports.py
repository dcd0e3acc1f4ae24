"""Reports in a real browser, where there is one."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

import infopt
from benchmarks import models
from tests.support.chromium import CHROMIUM, Chromium
from tests.support.html import check_page
from tests.support.stacked import network

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

pytestmark = pytest.mark.slow
needs_a_browser = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
MOST = 2_000_000


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    room = tmp_path_factory.mktemp("report")
    onnx.save(network(), room / "network.onnx")
    infopt.optimize(room / "network.onnx", room / "e", report=room / "report.html")
    return room / "report.html"


@needs_a_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_it_asks_for_nothing_and_fits(report: Path, width: int, dark: bool) -> None:
    with Chromium(width, 844, dark=dark) as browser:
        browser.open(report)
        assert browser.requests == [report.as_uri()]
        assert browser.complaints == []
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        ground = browser.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(13, 17, 22)" if dark else "rgb(243, 245, 248)")
        # What is drawn takes the page's colours, and no letter of it is too small to read.
        smallest = browser.evaluate("""Math.min(...[...document.querySelectorAll("svg text")].map(
            text => text.getBoundingClientRect().height))""")
        assert smallest >= 7
        colour = """getComputedStyle(document.querySelector("svg text")).fill"""
        assert browser.evaluate(colour) != ("rgb(0, 0, 0)" if dark else "rgb(255, 255, 255)")


@needs_a_browser
@pytest.mark.parametrize("width", [390, 1200])
def test_tables_are_tables_to_a_screen_reader(report: Path, width: int) -> None:
    root = check_page(report.read_text(encoding="utf-8"))
    shown = [e for e in root.all("div") if e.attributes.get("class") == "scroll"]
    folded = [e for it in root.all("details") for e in it.all("table")]
    tables = [table for it in shown for table in it.all("table") if table not in folded]
    assert any(table.attributes.get("class") == "stacked" for table in tables)
    with Chromium(width, 844) as browser:
        browser.open(report)
        seen = browser.roles()
    assert seen["table"] == len(tables)
    heads = [head.attributes["scope"] for table in tables for head in table.all("th")]
    assert seen["columnheader"] == heads.count("col")
    assert seen["rowheader"] == heads.count("row")
    assert seen["cell"] == sum(1 for table in tables for _ in table.all("td"))
    assert seen["image"] == 2


@needs_a_browser
def test_a_keyboard_reaches_everything(report: Path) -> None:
    with Chromium(1200, 844) as browser:
        browser.open(report)
        wanted = browser.evaluate("document.querySelectorAll('a, summary, .scroll').length")
        hidden = browser.evaluate("document.querySelectorAll('details .scroll').length")
        seen = set()
        for _ in range(wanted):
            browser.press("Tab")
            seen.add(
                browser.evaluate("""(e => e.tagName + e.textContent.slice(0, 80) + e.offsetTop)(
                document.activeElement)""")
            )
            outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"
            if len(seen) == wanted - hidden:
                break
        assert len(seen) == wanted - hidden
        browser.evaluate("document.querySelector('summary').focus()")
        browser.press("Enter")
        assert browser.evaluate("document.querySelector('details').open") is True


def test_the_report_of_minilm_is_small(tmp_path: Path) -> None:
    file = tmp_path / "minilm.html"
    infopt.optimize(models.minilm(), tmp_path / "e", report=file)
    assert file.stat().st_size < MOST
    root = check_page(file.read_text(encoding="utf-8"))
    text = root.text()
    assert "layer.5" in text
    assert "encoder.layer.0" in text
    if CHROMIUM:
        with Chromium(390, 844) as browser:
            browser.open(file)
            assert browser.requests == [file.as_uri()]
            assert browser.complaints == []
            assert browser.evaluate("document.documentElement.scrollWidth") <= 390
