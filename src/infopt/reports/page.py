"""A page: what stands on it, and how it becomes HTML."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from infopt._version import __version__
from infopt.errors import UnavailableError
from infopt.outputs import check_text, write_text

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

MISSING = 'reports need Jinja2 and matplotlib: pip install "infopt[report]"'


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell of a table."""

    text: str
    state: str = ""
    """``good``, ``bad``, ``caution``, ``quiet``, or nothing: how it is coloured; the text tells
    the same."""
    share: float | None = None
    """0 to 1: a bar beside the text."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table."""

    title: str
    kind: str = "text"
    """``text``, ``name`` (may be broken anywhere), ``number`` (aligned right)."""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table; the first cell of each row names it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    folded: bool = False
    """Whether it is closed at first: long, and not what most look for."""

    @property
    def columns_beneath(self) -> int:
        """How many figures of a row stand side by side beneath its names on a phone; 0: all do.

        Where it is not 0, rows are no longer laid out as such, and say with roles that they are.
        """
        names = sum(column.kind == "name" for column in self.columns)
        beneath = len(self.columns) - names
        if names < 2 and (not names or beneath < 4):
            return 0
        return beneath if beneath < 5 else 3


@dataclasses.dataclass(frozen=True)
class Figure:
    """A drawing."""

    svg: str
    """Trusted: it was made by :mod:`infopt.reports.charts`."""
    caption: str


@dataclasses.dataclass(frozen=True)
class Note:
    """A paragraph."""

    text: str
    state: str = ""


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names and what they stand for."""

    rows: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class Items:
    """A list of short texts."""

    title: str
    texts: tuple[str, ...]
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Beside:
    """Two blocks, next to each other where there is room."""

    left: Block
    right: Block


Block = Table | Figure | Note | Facts | Items | Beside


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page, with a heading of its own."""

    title: str
    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One answer in a word or two, at the head of the page."""

    question: str
    answer: str
    detail: str = ""
    state: str = ""


@dataclasses.dataclass(frozen=True)
class Page:
    """A whole report."""

    title: str
    lead: str
    verdicts: tuple[Verdict, ...]
    sections: tuple[Section, ...]

    def html(self) -> str:
        """The page as one file: no script, no request, whatever a model calls its nodes.

        Raises:
            UnavailableError: Jinja2 is not installed.
        """
        numbers = itertools.count(1)
        text = _template().render(
            page=self,
            style=_resource("style.css"),
            version=__version__,
            sections=[(_anchor(section.title), section) for section in self.sections],
            kind=lambda block: type(block).__name__,
            fresh=lambda: f"b{next(numbers)}",
        )
        return text.encode("utf-8", "replace").decode()  # a path may be no text at all


def table(
    caption: str, columns: str, rows: Sequence[Sequence[Cell | str]], **options: bool
) -> Table:
    """A table, its columns in one text: ``"node! operator >time >share"``.

    ``>`` in front aligns right, ``!`` behind marks names; ``_`` stands for a space.
    """
    return Table(
        caption,
        tuple(_columns(columns)),
        tuple(tuple(Cell(it) if isinstance(it, str) else it for it in row) for row in rows),
        **options,
    )


def _columns(text: str) -> Iterator[Column]:
    for word in text.split():
        kind = "number" if word.startswith(">") else "name" if word.endswith("!") else "text"
        yield Column(word.strip(">!").replace("_", " "), kind)


def check(path: Path) -> None:
    """Make sure, before any work, that a report can be written at ``path``.

    Raises:
        UnavailableError: What draws reports is not installed.
        OutputError: ``path`` is a directory.
        StorageError: It cannot be written.
    """
    check_text(path)
    _jinja2()
    matplotlib()


def write(page: Page, path: Path) -> None:
    """Write a page.

    Raises:
        UnavailableError: Jinja2 is not installed.
        StorageError: It cannot be written.
    """
    write_text(path, page.html())


def matplotlib() -> ModuleType:
    """The library that draws.

    Raises:
        UnavailableError: It is not installed.
    """
    try:
        import matplotlib as library
    except ImportError as error:
        raise UnavailableError(f"{MISSING} ({error})") from None
    return library


def _jinja2() -> ModuleType:
    try:
        import jinja2
    except ImportError as error:
        raise UnavailableError(f"{MISSING} ({error})") from None
    return jinja2


@functools.cache
def _template() -> Template:
    jinja2 = _jinja2()
    environment = jinja2.Environment(
        autoescape=True,  # names of nodes are whatever a file says
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    found: Template = environment.from_string(_resource("page.html.jinja"))
    return found


def _breakable(name: str) -> Markup:
    """A name that may go on in the next line where one of its parts ends."""
    from markupsafe import Markup, escape

    parts = re.findall(r"[A-Z]*[^/._:A-Z]*[/._:]*", name)
    return Markup("<wbr>").join(map(escape, filter(None, parts)))


def _resource(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
