"""The parts that reports are put together of; each takes what ``--json`` prints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infopt import record
from infopt.reports import charts
from infopt.reports.page import (
    Beside,
    Block,
    Cell,
    Facts,
    Figure,
    Items,
    Note,
    Table,
    Verdict,
    table,
)
from infopt.words import cosine, count, decibels, duration, figure, shape, size

NOT_MEASURED = "not measured"
STATES = {
    **dict.fromkeys(("faster", "better"), "good"),
    **dict.fromkeys(("slower", "worse"), "bad"),
    "inconclusive": "caution",
}
"""How a verdict is coloured."""
_TOP = 12
"""Rows of a long table that are shown at once; the rest is folded."""
GLOSSARY = (
    "max abs: the largest distance of a value from its reference.",
    "max rel: that distance, as a part of the largest value of the reference.",
    "SQNR: how much stronger the reference is than the difference; 20 dB more is a tenth of it.",
    "cosine: 1 where both point in the same direction.",
    "top-1: how often both have the largest score in the same place.",
)
"""What stands above the columns of errors."""
_NOTABLE = 1.05
"""Weights so many times smaller are worth the headline."""
_ELSEWHERE = "(no layer)"


def exact_verdict(found: object) -> Verdict:
    """Whether outputs are the same, in short."""
    if not isinstance(found, Mapping):
        return Verdict("How exact", NOT_MEASURED, _reason(found), "caution")
    limit, outputs = record.limit(found), found["outputs"].values()
    worst = max((float(row["max_relative"]) for row in outputs), default=0.0)
    least = min((float(row["sqnr_db"]) for row in outputs), default=math.inf)
    detail = f"largest relative error {figure(worst)}, {decibels(least)}"
    by_error = math.isfinite(float(found["tolerance"])) or limit == record.UNLIMITED
    if found["failing"]:
        beyond = f"{count(len(found['failing']), 'sample')} {'beyond' if by_error else 'below'}"
        return Verdict("How exact", f"✗ {beyond} {limit}", detail, "bad")
    return Verdict("How exact", f"✓ {'within' if by_error else 'above'} {limit}", detail, "good")


def equivalence(found: Mapping[str, Any], caption: str) -> Iterator[Block]:
    """The distance of each output, and on which inputs it was found."""
    allowed, least = float(found["tolerance"]), float(found.get("least_sqnr", "-inf"))
    rows = []
    classes = any(row.get("top1") is not None for row in found["outputs"].values())
    for name, row in found["outputs"].items():
        top1 = [] if not classes else ["–" if row.get("top1") is None else f"{row['top1']:.1%}"]
        relative, sqnr = float(row["max_relative"]), float(row["sqnr_db"])
        rows.append(
            (
                name,
                figure(float(row["max_absolute"])),
                Cell(figure(relative), "bad" if relative > allowed else ""),
                Cell(decibels(sqnr), "bad" if sqnr < least else ""),
                cosine(float(row["cosine"])),
                *top1,
            )
        )
    columns = "output! >max_abs >max_rel >SQNR >cosine" + (" >top-1" if classes else "")
    yield table(f"{caption}, allowed: {record.limit(found)}", columns, rows)
    ran = f", {found['ran']}" if found.get("ran") else ""
    samples = list(found["samples"])
    yield Note(f"Compared with {found['reference']}{ran}, on {count(len(samples), 'sample')}.")
    yield Items(f"The {count(len(samples), 'sample')}", tuple(map(str, samples)), folded=True)
    yield Items("What the columns mean", GLOSSARY if classes else GLOSSARY[:-1], folded=True)


def layers(found: object) -> Iterator[Block]:
    """The error of each layer, and where both models part ways."""
    if not isinstance(found, Mapping):
        yield Note(f"Layer by layer: {found or NOT_MEASURED}.", "caution")
        return
    tensors, tolerance = found["tensors"], float(found["tolerance"])
    telling = [row for row in tensors if not row["absorbed"]]
    values = [
        (row["layer"], float(row["difference"]["max_relative"]), bool(row["diverges"]))
        for row in telling
    ]
    first = found["first"]
    words = _parting(first, tolerance)
    yield Note(words, "good" if first is None else "bad")
    listed = table(
        "Error of each layer",
        "layer! >values >max_rel >SQNR verdict",
        [
            (
                row["layer"] or _ELSEWHERE,
                f"{row['tensors']:,}",
                figure(float(row["max_relative"])),
                decibels(float(row["sqnr_db"])),
                Cell("diverges", "bad") if row["diverges"] else Cell("within", "quiet"),
            )
            for row in found["layers"]
        ],
    )
    if values:
        drawing = charts.errors(values, tolerance, described=f"{words} The table has the figures.")
        yield Beside(Figure(drawing, _legend(values, tolerance)), listed)
    else:
        yield listed
    yield _tensors(tensors)
    parts, samples = count(found["parts"][0], "part"), count(len(found["samples"]), "sample")
    yield Note(
        f"{len(tensors):,} of {count(found['computed'], 'value')} inside were matched and compared "
        f"as the graphs say, the runtime's optimizations off, in {parts}, on {samples}.",
        "quiet",
    )
    absorbed = len(tensors) - len(telling)
    if absorbed:
        yield Note(
            f"{count(absorbed, 'value')} differ although nothing behind them does: passes have "
            "moved a bias or a scale past them. They are not drawn.",
            "quiet",
        )
    for note in found["notes"]:
        yield Note(_sentence(note), "quiet")


def _legend(values: Sequence[tuple[str, float, bool]], tolerance: float) -> str:
    legend = f"Each dot is a value inside; the dashed line is the limit, {tolerance:.2g}."
    if any(error == 0 for _, error, _ in values):
        legend += " What lies on the axis is exactly equal."
    if any(diverges for *_, diverges in values):
        legend += " Diamonds diverge."
    return legend


def _parting(first: Mapping[str, Any] | None, tolerance: float) -> str:
    if first is None:
        return f"Inside, the models agree within {tolerance:.2g} everywhere."
    relative, sqnr = (float(first["difference"][key]) for key in ("max_relative", "sqnr_db"))
    return (
        f"The models part ways at {first['node'] or first['value']} ({first['operator']}): "
        f"relative error {figure(relative)}, {decibels(sqnr)}."
    )


def _tensors(tensors: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (
            row["value"],
            Cell(row["node"]),
            row["operator"],
            row["how"],
            figure(float(row["difference"]["max_relative"])),
            decibels(float(row["difference"]["sqnr_db"])),
            Cell("diverges", "bad")
            if row["diverges"]
            else Cell("moved" if row["absorbed"] else "within", "quiet"),
        )
        for row in tensors
    ]
    columns = "value! node! operator matched_by >max_rel >SQNR verdict"
    return table(f"All {count(len(rows), 'value')} that were matched", columns, rows, folded=True)


def speed_verdict(found: object) -> Verdict:
    """How fast the last subject is beside the first, in short."""
    if not isinstance(found, Mapping):
        return Verdict("How fast", NOT_MEASURED, _reason(found), "caution")
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
        yield Note(f"{_sentence(str(found or NOT_MEASURED))}", "caution")
        return
    yield Note(
        f"{_sentence(found['sample'])} Medians of {count(found['calls'], 'call')} under the "
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
            *([_provider(row["provider"])] if several else []),
        )
        for row in found["operators"]
    ]
    columns = "operator! >nodes >time >share" + (" provider" if several else "")
    yield from _top("Time by operator", columns, rows, "operator")
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
    yield from _top("The slowest nodes", columns, drawn, "node")


def _top(
    caption: str, columns: str, rows: Sequence[Sequence[Cell | str]], one: str
) -> Iterator[Table]:
    """The first rows of a long table, and the others folded; never a fold for one or two."""
    most = _TOP if len(rows) > _TOP + 2 else len(rows)
    yield table(caption, columns, rows[:most])
    if rows[most:]:
        rest = count(len(rows) - most, f"more {one}")
        yield table(rest, columns, rows[most:], folded=True)


def _provider(name: str) -> str:
    return name.removesuffix("ExecutionProvider")


def changes(
    runs: Sequence[Mapping[str, Any]], counts: Mapping[str, Mapping[str, int]]
) -> Iterator[Block]:
    """What each pass did beside how many nodes of each operator there were and are; the rest."""
    did, *idle = passes(runs)
    now, *more = operators(counts)
    yield Beside(did, now)
    yield from more
    yield from idle


def passes(runs: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    """What each pass did, and what it left alone."""
    rows, idle = [], []
    for row in record.by_pass(runs):
        if not row["changes"]:
            idle.append(record.short(row["spec"]))
            continue
        delta = row["nodes_after"] - row["nodes_before"]
        rows.append(
            (
                record.short(row["spec"]),
                f"{len(row['changes']):,}",
                f"{delta:+,}".replace("-", "−") if delta else "0",
                duration(row["seconds"]),
            )
        )
    if rows:
        yield table("What each pass did", "pass! >changes >nodes >time", rows)
    else:
        yield Note("No pass found anything to change.")
    if idle:
        yield Items(
            f"{count(len(idle), 'pass', 'passes')} without a change", tuple(idle), folded=True
        )
    left = _left_alone(runs)
    if left:
        yield table("What was left alone, and why", "pass! place! because", left, folded=True)


def _left_alone(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for run in runs:
        for refusal in run["refusals"]:
            key = record.short(run["spec"]), refusal["reason"]
            found.setdefault(key, []).append(refusal["node"])
    rows = []
    for (spec, reason), places in found.items():
        places = list(dict.fromkeys(places))
        more = f" and {len(places) - 1:,} more" if len(places) > 1 else ""
        rows.append((spec, f"{places[0]}{more}", reason))
    return rows


def operators(counts: Mapping[str, Mapping[str, int]]) -> Iterator[Block]:
    """How many nodes of each operator there were, and are."""
    if not counts:
        yield Note(f"Operators before and after: {NOT_MEASURED}.", "caution")
        return
    most = max(max(row["before"], row["after"]) for row in counts.values()) or 1
    rows = [
        (
            name,
            Cell(f"{row['before']:,}", share=row["before"] / most),
            Cell(f"{row['after']:,}", share=row["after"] / most),
        )
        for name, row in counts.items()
    ]
    yield from _top("Operators before and after", "operator! >before >after", rows, "operator")


def fusions(counts: Mapping[str, Mapping[str, int]]) -> Iterator[Block]:
    """What raising found and missed."""
    if not counts:
        return
    rows = [
        (
            name,
            f"{row['found']:,}",
            f"{row['raised']:,}",
            Cell(f"{row['missed']:,}", "caution" if row["missed"] else ""),
            f"{row['expected']:,}" if "expected" in row else "–",
        )
        for name, row in counts.items()
    ]
    columns = "operator! >found >raised >nearly >expected"
    yield table("Operators of a high level, after raising", columns, rows)


def precision(found: object) -> Iterator[Block]:
    """In which types each layer keeps the weights of its products."""
    if not isinstance(found, Mapping) or not found:
        yield Note("There are no products with weights.", "quiet")
        return
    types = sorted({kind for row in found.values() for kind in row})
    rows = []
    for layer, row in found.items():
        total = sum(row.values())
        cells = [
            Cell(f"{row.get(kind, 0):,}" if kind in row else "–", share=row.get(kind, 0) / total)
            for kind in types
        ]
        rows.append((layer or _ELSEWHERE, *cells))
    caption = "Products with weights, by the type in which these are stored"
    yield table(caption, "layer! " + " ".join(f">{kind}" for kind in types), rows)


def mixed(found: Mapping[str, Any]) -> Iterator[Block]:
    """Which nodes a budget kept in float."""
    kept = found["kept"]
    rows = [(row["node"], row["operator"], decibels(float(row["sqnr_db"]), 1)) for row in kept]
    if rows:
        yield table("Kept in float", "node! operator >SQNR_alone", rows, folded=len(rows) > _TOP)
    else:
        yield Note("Every node could be quantized within the budget.")


def conditions(versions: Mapping[str, Any], hardware: Mapping[str, Any]) -> Facts:
    """With what, and on what, the figures were taken."""
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    return Facts(
        (("Software", made), *((_title(key), _text(value)) for key, value in hardware.items()))
    )


def size_verdict(before: int, after: int, on_disk: int) -> Verdict:
    """How large weights are, beside those of the original."""
    now = size(after)
    detail = f"of weights, which were {size(before)}; {size(on_disk)} on disk"
    smaller = before / after if after else 1.0
    if smaller < _NOTABLE:
        return Verdict("How large", now, detail)
    return Verdict("How large", f"{smaller:.1f}× smaller", f"{now} {detail}")


def nodes_verdict(before: int, after: int) -> Verdict:
    """How many nodes there are, beside those of the original."""
    if not before or before == after:
        return Verdict("How many nodes", f"{after:,}", "as many as before")
    share = abs(after - before) / before
    return Verdict(
        "How many nodes",
        f"{before:,} → {after:,}",
        f"{share:.0%} {'fewer' if after < before else 'more'}",
    )


def _reason(found: object) -> str:
    return str(found).removeprefix(NOT_MEASURED).lstrip(": ") if found else ""


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
