"""A page as a tree of elements, read by the standard library alone."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclasses.dataclass
class Element:
    """An element, and what is in it."""

    tag: str
    attributes: dict[str, str | None]
    children: list[Element | str] = dataclasses.field(default_factory=list)

    def all(self, *tags: str) -> Iterator[Element]:
        """All elements in it of these tags, or of any, in order."""
        for child in self.children:
            if isinstance(child, Element):
                if not tags or child.tag in tags:
                    yield child
                yield from child.all(*tags)

    def text(self) -> str:
        """All text in it, white space as one blank."""
        parts = [child if isinstance(child, str) else child.text() for child in self.children]
        return " ".join(" ".join(parts).split())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "wbr":
            return  # a word with it is still one
        element = Element(tag, dict(attrs))
        self._open[-1].children.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        siblings = self._open[-1].children
        before = siblings[-1] if siblings else None
        if isinstance(before, str):
            siblings[-1] = before + data
        else:
            siblings.append(data)


def read(text: str) -> Element:
    """The page; every element has to be closed where it should be."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert reader._open == [reader.root], f"<{reader._open[-1].tag}> is never closed"
    return reader.root


def check_page(text: str) -> Element:
    """The page, if it needs nothing else and can be used by whoever cannot see it."""
    root = read(text)
    elements = list(root.all())
    assert not list(root.all("script", "iframe", "object", "embed", "img", "form"))
    for element in elements:
        for name, value in element.attributes.items():
            assert not name.startswith("on"), name
            if name in ("href", "src", "srcset", "action", "xlink:href"):
                assert (value or "").startswith(("#", "data:,")), value
            if name == "style":
                assert "url(" not in (value or "").replace("url(#", ""), value
    style = next(root.all("style")).text()
    assert "url(" not in style
    assert "@import" not in style

    ids = [element.attributes["id"] for element in elements if "id" in element.attributes]
    assert len(set(ids)) == len(ids)
    for element in elements:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set((element.attributes.get(name) or "").split()) <= set(ids)
        link = element.attributes.get("href") or ""
        assert not link.startswith("#") or link[1:] in ids

    html = next(root.all("html"))
    assert html.attributes["lang"] == "en"
    assert len(list(root.all("h1"))) == len(list(root.all("main"))) == 1
    assert next(root.all("nav")).attributes["aria-label"]
    levels = [int(element.tag[1]) for element in root.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for section in root.all("section"):
        assert section.attributes["aria-labelledby"]
    for table in root.all("table"):
        assert next(table.all("caption")).text()
        heads, *rows = table.all("tr")
        columns = list(heads.all("th"))
        assert all(head.attributes["scope"] == "col" for head in columns)
        for row in rows:
            first, *rest = (child for child in row.children if isinstance(child, Element))
            assert (first.tag, first.attributes["scope"]) == ("th", "row")
            assert len(rest) == len(columns) - 1
            assert all(cell.tag == "td" for cell in rest)
    for scroll in root.all("div"):
        if scroll.attributes.get("class") == "scroll":
            assert scroll.attributes["tabindex"] == "0"
            assert scroll.attributes["role"] == "region"
    for svg in root.all("svg"):
        assert svg.attributes["role"] == "img"
        assert next(svg.all("title")).text()
        assert next(svg.all("desc")).text()
    return root
