import json
from pathlib import Path

import pytest

from benchmarks.report import Page


@pytest.fixture
def page() -> Page:
    return Page(
        name="speed",
        title="Speed",
        command="python -m benchmarks.speed",
        method="How it was made.",
        tables=[("Fast", ["Model", "Time"], [["bert", "1 ms"], ["vit", "2 ms"]])],
        results={"bert": 0.001},
    )


def test_the_page_says_where_when_and_how(page: Page, tmp_path: Path) -> None:
    page.write(tmp_path / "docs")
    text = (tmp_path / "docs/speed.md").read_text()
    assert text.startswith("# Speed\n\nHow it was made.\n\nTaken on 20")
    assert "infopt " in text
    assert "`python -m benchmarks.speed` takes the figures again" in text
    assert "## Fast\n\n| Model | Time |\n| --- | --: |\n| bert | 1 ms |\n| vit | 2 ms |\n" in text


def test_the_figures_are_json(page: Page, tmp_path: Path) -> None:
    page.write(tmp_path)
    document = json.loads((tmp_path / "speed.json").read_text())
    assert document["results"] == {"bert": 0.001}
    assert {"hardware", "versions", "date", "command"} <= set(document)


def test_tables_are_printed(page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    page.print()
    assert "bert" in capsys.readouterr().out


def test_marks_of_the_page_are_none_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    cells = ["**0.96** (0.9-1)", "[page](https://example.org/a)", "a[0] (b) * **"]
    made = Page("p", "P", "c", "m", [("T", ["a", "b", "c"], [cells])], {})
    made.print()
    said = capsys.readouterr().out
    assert "0.96 (0.9-1)" in said
    assert "**0.96" not in said
    assert " page " in said
    assert "example" not in said
    assert "a[0] (b) * **" in said
