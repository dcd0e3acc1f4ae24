"""What the benchmarks print and write: tables, a JSON file, and a page of the documentation."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from infopt import provenance

DOCS = Path("docs/benchmarks")
_MARKED = re.compile(r"\*\*(?P<bold>[^*]+)\*\*|\[(?P<link>[^\]]+)\]\((?P<address>[^)]+)\)")


@dataclasses.dataclass(frozen=True)
class Page:
    """One benchmark's results: how it was made, and tables of text."""

    name: str
    title: str
    command: str
    method: str
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]
    """Caption, header and rows of each table; the first column is text, the others figures."""
    results: object
    """The same as data, for JSON."""
    extra_versions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def print(self) -> None:
        """Show the tables."""
        console = Console(markup=False)  # an error may hold brackets
        console.width = max(console.width, 110)  # figures do not wrap
        for caption, header, rows in self.tables:
            table = Table(title=caption, title_justify="left")
            for index, word in enumerate(header):
                table.add_column(word, justify="right" if index else "left")
            for row in rows:
                table.add_row(*map(_drawn, row))
            console.print(table)

    def write(self, directory: Path = DOCS) -> None:
        """Write ``name.md`` and ``name.json``; whoever interrupts it leaves the old ones."""
        directory.mkdir(parents=True, exist_ok=True)
        document = self.document()
        texts = {"json": json.dumps(document, indent=1) + "\n", "md": self.render(document)}
        for ending, text in texts.items():
            unfinished = directory / f"{self.name}.{ending}.unfinished"
            unfinished.write_text(text)
            unfinished.rename(directory / f"{self.name}.{ending}")

    def document(self) -> dict[str, Any]:
        """The results and where they were taken, ready for JSON."""
        return {
            "benchmark": self.name,
            "command": self.command,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "hardware": provenance.hardware(),
            "versions": {**provenance.versions(), **self.extra_versions},
            "results": self.results,
        }

    def render(self, document: Mapping[str, Any]) -> str:
        """The page, with date, machine and versions from the JSON document."""
        machine, versions = document["hardware"], document["versions"]
        lines = [f"# {self.title}", "", self.method, ""]
        lines += [
            f"Taken on {document['date']}, {machine['processor']}, {machine['cores']} cores, "
            f"{machine['system']}."
        ]
        lines += ["Versions: " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".", ""]
        lines += [f"`{self.command}` takes the figures again and writes this page.", ""]
        return "\n".join(lines) + "\n" + self.tables_as_text()

    def tables_as_text(self) -> str:
        """The tables as a page has them."""
        lines = []
        for caption, header, rows in self.tables:
            lines += [f"## {caption}", "", *_markdown(header, rows), ""]
        return "\n".join(lines)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", *["--:"] * (len(header) - 1)]
    return ["| " + " | ".join(row) + " |" for row in (header, rule, *rows)]


def versions(*names: str) -> dict[str, str]:
    """The versions of those that are installed."""
    found = {}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _drawn(cell: str) -> Text:
    """A cell of the page as a terminal shows it: bold words, and links to click on."""
    drawn, at = Text(), 0
    for found in _MARKED.finditer(cell):
        drawn.append(cell[at : found.start()])
        bold, link, address = found.group("bold", "link", "address")
        drawn.append(bold or link, "bold" if bold else f"link {address}")
        at = found.end()
    return drawn.append(cell[at:])
