"""How fast it is, and where the time goes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from infopt import sentences
from infopt.reports import charts
from infopt.reports.page import Beside, Block, Cell, Facts, Figure, Note, Verdict, table
from infopt.reports.parts import sentence, top
from infopt.words import count, duration, shape

STATES = {
    **dict.fromkeys(("faster", "better"), "good"),
    **dict.fromkeys(("slower", "worse"), "bad"),
    "inconclusive": "caution",
}
"""How a verdict is coloured."""


def speed_verdict(found: object) -> Verdict:
    """How fast the last subject is beside the first, in short."""
    if not isinstance(found, Mapping):
        return Verdict("How fast", sentences.NOT_MEASURED, sentences.reason(found), "caution")
    *_, (name, row) = found["subjects"].items()
    return ratio_verdict("How fast", row["ratio"], f"{name}: median {duration(row['median'])}")


def ratio_verdict(question: str, ratio: Mapping[str, Any], detail: str) -> Verdict:
    """A ratio and what may be said of it; where nothing may, that goes first."""
    word, figure_ = str(ratio["verdict"]), f"{float(ratio['value']):.2f}×"
    answer = word if word == "inconclusive" else f"{figure_}, {word}"
    beside = f"{figure_}, " if word == "inconclusive" else ""
    detail = f"{beside}interval {_interval(ratio)}; {detail}"
    return Verdict(question, answer, detail, STATES.get(word, ""))


def speed(found: Mapping[str, Any]) -> Iterator[Block]:
    """An interleaved measurement: percentiles, ratios, and the distribution of the calls."""
    rows = []
    for number, (name, row) in enumerate(found["subjects"].items()):
        ratio = row["ratio"]
        verdict = "baseline" if number == 0 else str(ratio["verdict"])
        rows.append(
            (
                name,
                *(duration(row[key]) for key in ("median", "p90", "p99")),
                f"{ratio['value']:.2f}×",
                "" if number == 0 else _interval(ratio),
                Cell(verdict, STATES.get(verdict, "quiet")),
            )
        )
    columns = "subject! >median >p90 >p99 >speed >interval verdict"
    yield table(f"At {found['sample']}", columns, rows)
    series = found.get("series")
    if series:
        medians = "; ".join(
            f"{name}: median {duration(row['median'])}, 90 % within {duration(row['p90'])}"
            for name, row in found["subjects"].items()
        )
        drawing = charts.spread(series, described=f"{medians}. The table has the figures.")
        dots = "Each dot is a round"
        repeats = max(row.get("repeats", 1) for row in found["subjects"].values())
        dots += f", the mean of up to {count(repeats, 'call')}" if repeats > 1 else ", one call"
        legend = f"{dots}; the line is the median, the bar holds half of the rounds."
        yield Beside(Figure(drawing, legend), _how(found))
    else:
        yield _how(found)


def _how(found: Mapping[str, Any]) -> Facts:
    """How a measurement was made."""
    rounds = f"{count(found['rounds'], 'round')} in {duration(found['seconds'])}"
    rows = [("Measured", f"{rounds}, interleaved")]
    if found.get("noise") is not None:
        rows.append(("The same model twice", f"differs by {found['noise']:.1%}"))
    _, *others = found["subjects"].values()
    if others:
        sure = f"{others[0]['ratio']['confidence']:.0%}"
        rows.append(("Intervals", f"{sure}, by bootstrap over whole rounds"))
    return Facts(tuple(rows))


def _interval(ratio: Mapping[str, Any]) -> str:
    return f"{float(ratio['low']):.2f}–{float(ratio['high']):.2f}"


def profile(found: object) -> Iterator[Block]:
    """Where the time of a run goes."""
    if not isinstance(found, Mapping):
        yield Note(f"{sentence(str(found or sentences.NOT_MEASURED))}", "caution")
        return
    yield Note(
        f"{sentence(found['sample'])} Medians of {count(found['calls'], 'call')} under the "
        f"runtime's profiler, {duration(found['seconds'])} each; those of the nodes add up to "
        f"{duration(sum(row['seconds'] for row in found['nodes']))}, and "
        f"{duration(found['between'])} lie between nodes. The profiler costs time itself: believe "
        "the shares."
    )
    most = max((row["share"] for row in found["operators"]), default=1.0) or 1.0
    several = len({row["provider"] for row in found["operators"]}) > 1
    rows = [
        (
            row["operator"],
            f"{row['nodes']:,}",
            duration(row["seconds"]),
            Cell(f"{row['share']:.1%}", share=row["share"] / most),
            *([sentences.provider(row["provider"])] if several else []),
        )
        for row in found["operators"]
    ]
    columns = "operator! >nodes >time >share" + (" provider" if several else "")
    yield from top("Time by operator", columns, rows, "operator")
    nodes = found["nodes"]
    most = max((row["share"] for row in nodes), default=1.0) or 1.0
    drawn = [
        (
            row["origin"] or row["node"],
            row["operator"],
            duration(row["seconds"]),
            Cell(f"{row['share']:.1%}", share=row["share"] / most),
            shape(row["outputs"][0][1]) if row["outputs"] else "–",
            row["layer"] or "–",
        )
        for row in nodes
    ]
    columns = "node! operator >time >share >output layer"
    yield from top("The slowest nodes", columns, drawn, "node")
