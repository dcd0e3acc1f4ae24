from __future__ import annotations

import builtins
import re
from pathlib import Path
from typing import Any

import pytest

from infopt.errors import OutputError, StorageError, UnavailableError
from infopt.reports import page
from infopt.reports.page import Beside, Cell, Facts, Items, Note, Page, Section, Verdict, table
from tests.support.html import check_page

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

HOSTILE = (
    "</style><script>alert(1)</script><img src=x onerror=alert(1)>\" onclick='x' & {{ 7 * 7 }}"
)


def _page(text: str) -> Page:
    rows: list[list[Cell | str]] = [[text, Cell(text, "bad", share=0.5)], [text, text]]
    return Page(
        title=text,
        lead=text,
        verdicts=(Verdict(text, text, text, "good"),),
        sections=(
            Section("Some things", (Note(text), Facts(((text, text),)), Items(text, (text, text)))),
            Section(
                "Other things",
                (
                    Items("Folded", (text,), folded=True),
                    table(text, "name! >a_number", rows),
                    table(text, "name! >a_number", rows, folded=True),
                    Beside(
                        Note(text),
                        table(text, "name! other! >a_number", [[text, *row] for row in rows]),
                    ),
                ),
            ),
        ),
    )


def test_it_needs_nothing_else_and_can_be_read_aloud() -> None:
    root = check_page(_page("a name").html())
    assert next(root.all("h1")).text() == "a name"
    assert [h.text() for h in root.all("h2")] == ["In short", "Some things", "Other things"]
    assert [a.attributes["href"] for a in next(root.all("nav")).all("a")] == [
        "#some-things",
        "#other-things",
    ]
    assert [th.text() for th in next(root.all("thead")).all("th")] == ["name", "a number"]


def test_names_are_text_whatever_they_are() -> None:
    text = _page(HOSTILE).html()
    root = check_page(text)
    assert next(root.all("h1")).text() == HOSTILE
    assert "49" not in text
    policy = next(
        meta.attributes["content"]
        for meta in root.all("meta")
        if meta.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "script-src" not in policy


def test_a_name_that_is_no_text_is_written_all_the_same(tmp_path: Path) -> None:
    page.write(_page("a\udcffb\x00c"), tmp_path / "report.html")
    assert "a?b" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_bars_are_for_the_eye_alone() -> None:
    spans = check_page(_page("x").html()).all("span")
    bars = [span for span in spans if span.attributes.get("class") == "bar"]
    assert len(bars) == 3
    assert all(bar.attributes["aria-hidden"] == "true" for bar in bars)
    assert {bar.attributes["style"] for bar in bars} == {"--share: 50.00%"}


def test_names_go_on_in_the_next_line_where_a_part_ends() -> None:
    text = _page("model.layer.0/node_1//MatMul").html()
    assert "model.<wbr>layer.<wbr>0/<wbr>node_<wbr>1//<wbr>Mat<wbr>Mul</th>" in text


def test_tables_that_stack_on_a_phone_say_that_they_are_tables() -> None:
    *tables, stacked = check_page(_page("x").html()).all("table")
    assert not any("role" in e.attributes for table in tables for e in table.all())
    assert stacked.attributes["style"] == "--columns: 1"
    assert stacked.attributes["role"] == "table"
    roles = {"thead": "rowgroup", "tbody": "rowgroup", "tr": "row", "td": "cell"}
    for element in stacked.all(*roles):
        assert element.attributes["role"] == roles[element.tag]
    heads = {"col": "columnheader", "row": "rowheader"}
    for head in stacked.all("th"):
        assert head.attributes["role"] == heads[str(head.attributes["scope"])]


@pytest.mark.parametrize(
    ("columns", "beneath"),
    [
        ("node! >time", 0),
        ("node! >a >b >c", 0),
        ("node! >a >b >c >d", 4),
        ("node! >a >b >c >d >e", 3),
        ("value! node! >a", 1),
        ("operator >a >b >c >d", 0),
    ],
)
def test_rows_of_many_figures_stack(columns: str, beneath: int) -> None:
    assert table("it", columns, []).columns_beneath == beneath


def test_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is a directory"):
        page.check(tmp_path)
    with pytest.raises(StorageError, match="there is no directory"):
        page.check(tmp_path / "nowhere" / "report.html")
    page.check(tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_what_is_missing_is_said_before_any_work(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == library:
            raise ImportError(f"No module named {library!r}")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnavailableError, match=r'pip install "infopt\[report\]"'):
        page.check(tmp_path / "report.html")


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: str, other: str) -> float:
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_from_their_ground(scheme: int) -> None:
    """WCAG 2.2: 4.5 for text, 3 for what is drawn."""
    palette = re.findall(r":root \{(.*?)\}", page._resource("style.css"), re.DOTALL)[scheme]
    colours = dict(re.findall(r"--(\w+): (#\w{6});", palette))
    for ground in ("ground", "paper", "raised"):
        for text in ("ink", "quiet", "accent", "second", "good", "bad", "caution"):
            assert _contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    assert _contrast(colours["accent"], colours["bar"]) >= 3
