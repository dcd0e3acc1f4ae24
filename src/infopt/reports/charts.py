"""Drawings as SVG that stands inside a page and follows its colours.

matplotlib lays them out. It knows nothing of style sheets, so it draws in colours that stand for
those of the page, which :func:`_inlined` puts in their place; text stays text, in the page's font.
"""

from __future__ import annotations

import hashlib
import io
import math
import random
import re
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from infopt.reports.page import matplotlib
from infopt.words import duration

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _QUIET, _LINE = "#010101", "#020202", "#030303"
_ACCENT, _SECOND, _BAD, _RAISED = "#040404", "#050505", "#060606", "#070707"
_COLOURS = {
    _INK: "var(--ink)",
    _QUIET: "var(--quiet)",
    _LINE: "var(--line)",
    _ACCENT: "var(--accent)",
    _SECOND: "var(--second)",
    _BAD: "var(--bad)",
    _RAISED: "var(--raised)",
    "#000000": "var(--ink)",
}
_WIDE = 4.6
"""Inches of 72 points, about what a phone is wide: text is as large there as it is drawn."""
_ROOM = 270
"""Points that are left for the plot itself, beside the labels of its axis."""
_DOTS = 400
"""Of a series at most so many are drawn, evenly chosen: more are a smear, and a large file."""


def spread(series: Mapping[str, Sequence[float]], *, described: str) -> str:
    """How long each call took: a row of dots for each subject, its median and its quartiles.

    Args:
        series: Seconds, by subject.
        described: What a person hears who does not see the drawing.
    """
    names = list(series)
    figure, axes = _axes(0.5 + 0.6 * len(names))
    longest = max(max(seconds) for seconds in series.values())
    scale, unit = (1e3, "ms") if longest >= 1e-3 else (1e6, "µs")
    order = random.Random(0)
    for row, name in enumerate(names):
        found = [seconds * scale for seconds in series[name]]
        shown = found[:: max(math.ceil(len(found) / _DOTS), 1)]
        colour = _ACCENT if row else _SECOND
        heights = [row + order.uniform(-0.22, 0.22) for _ in shown]
        axes.scatter(shown, heights, s=9, color=colour, alpha=0.55, linewidths=0)
        if len(found) > 1:
            low, _, high = statistics.quantiles(found, n=4)
            axes.plot([low, high], [row + 0.36] * 2, color=colour, linewidth=3)
        axes.plot(
            [statistics.median(found)] * 2, [row - 0.25, row + 0.42], color=_INK, linewidth=1.6
        )
        place: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "va": "bottom", "size": 9}
        axes.text(0, row - 0.3, _cut(name, 44), color=_INK, **place)
        median = f"median {duration(statistics.median(series[name]))}"
        axes.text(1, row - 0.3, median, color=_QUIET, ha="right", **place)
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.5, -0.65)
    axes.set_xlabel(f"{unit} for one call")
    axes.grid(axis="x", color=_LINE, linewidth=0.8)
    return _svg(figure, "How long each call took", described)


def is_drawn(tolerance: float) -> bool:
    """Whether a limit has a place on a logarithmic axis."""
    return 0 < tolerance < math.inf


def errors(values: Sequence[tuple[str, float, bool]], tolerance: float, *, described: str) -> str:
    """Relative errors of values in the order in which they are computed, by layer.

    Args:
        values: The layer, the error, and whether it diverges, of each value.
        tolerance: Where to draw the limit; 0 and infinity have no place on the axis.
        described: What a person hears who does not see the drawing.
    """
    figure, axes = _axes(2.6)
    from matplotlib.ticker import NullLocator

    finite = [error for _, error, _ in values if 0 < error < math.inf]
    limits = [tolerance] if is_drawn(tolerance) else []
    floor = min([*finite, *limits, 1e-8]) / 3
    ceiling = max([*finite, *limits, 1e-8]) * 3
    spots = [min(max(error, floor), ceiling) for _, error, _ in values]
    for start, stop, layer, shaded in _bands(values):
        if shaded:
            axes.axvspan(start - 0.5, stop - 0.5, color=_RAISED, linewidth=0)
        room = _ROOM * (stop - start) / len(values)
        label = next((it for it in (layer, layer.rpartition(".")[2]) if len(it) * 4.6 < room), "")
        middle = (start + stop - 1) / 2
        axes.text(middle, ceiling, _clean(label), ha="center", va="bottom", size=8, color=_QUIET)
    for limit in limits:
        axes.axhline(limit, color=_BAD, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(len(values) - 0.4, limit, f" {limit:.2g}", va="center", color=_BAD, size=8)
    axes.plot(range(len(spots)), spots, color=_QUIET, linewidth=0.7)
    for colour, marker, bad in ((_ACCENT, "o", False), (_BAD, "D", True)):
        mine = [at for at, (_, _, diverges) in enumerate(values) if diverges is bad]
        axes.scatter(mine, [spots[at] for at in mine], s=13, color=colour, marker=marker, zorder=3)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"1e{round(math.log10(value)):+03d}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(floor / 1.5, ceiling)
    axes.set_xlim(-0.6, len(values) - 0.4)
    axes.set_xticks([])
    axes.set_xlabel("values inside the model, first to last")
    axes.set_ylabel("relative error")
    axes.grid(axis="y", color=_LINE, linewidth=0.8)
    return _svg(figure, "Relative error, value by value", described)


def _bands(values: Sequence[tuple[str, float, bool]]) -> Iterator[tuple[int, int, str, bool]]:
    """Neighbours of one layer: start, stop, layer, and whether to shade them: every other one."""
    start, shaded = 0, False
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at][0] != values[start][0]:
            yield start, at, values[start][0], shaded
            start, shaded = at, not shaded


def _axes(height: float) -> tuple[Figure, Axes]:
    matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDE, height), layout="constrained")
    axes = figure.add_subplot()
    axes.patch.set_visible(False)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(_LINE)
    axes.tick_params(colors=_QUIET, labelcolor=_INK, length=0, labelsize=9)
    axes.xaxis.label.set(color=_QUIET, size=9)
    axes.yaxis.label.set(color=_QUIET, size=9)
    return figure, axes


def _svg(figure: Figure, title: str, described: str) -> str:
    from matplotlib.text import Text

    stream = io.StringIO()
    settings = {"svg.fonttype": "none", "svg.hashsalt": "infopt"}
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    for words in figure.findobj(Text):
        assert isinstance(words, Text)
        words.set_parse_math(False)  # a name with two dollars in it is no formula
    with matplotlib().rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that its own font lacks: the page's may not
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return _inlined(stream.getvalue(), title, described)


def _inlined(text: str, title: str, described: str) -> str:
    """A drawing as part of a page: its own ids, the page's colours and font, named for readers."""
    title, described = _clean(title), _clean(described)
    root = ElementTree.fromstring(text)  # of matplotlib's making: it declares no entities
    prefix = f"c{hashlib.sha256((text + described).encode()).hexdigest()[:8]}-"
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        for name in list(element.attrib):
            value = element.attrib.pop(name)
            element.set(_local(name), _attribute(_local(name), value, prefix))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-labelledby": f"{prefix}title {prefix}about"})
    for at, (tag, id_, words) in enumerate(
        [("title", f"{prefix}title", title), ("desc", f"{prefix}about", described)]
    ):
        element = ElementTree.Element(tag, {"id": id_})
        element.text = words
        root.insert(at, element)
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return prefix + value
    if name == "href" and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    value = re.sub(r"url\(#", f"url(#{prefix}", value)
    if name == "style":
        value = _font(value)
        for colour, variable in _COLOURS.items():
            value = value.replace(colour, variable)
    return value


def _font(style: str) -> str:
    """``style`` without the fonts that matplotlib names: their sizes alone."""
    style = re.sub(r"font: (?:[\w-]+ )*?([\d.]+px) [^;]*", r"font-size: \1", style)
    return re.sub(r"font-family: [^;]*;? *", "", style)


def _cut(name: str, most: int) -> str:
    """The end of a long name, which tells more than its beginning."""
    return _clean(name if len(name) <= most else f"…{name[1 - most :]}")


def _clean(text: str) -> str:
    """``text`` with ``?`` for what XML cannot hold."""
    return re.sub(r"[^\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)
