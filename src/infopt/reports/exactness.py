"""How exact it is: outputs, and what lies inside."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infopt import sentences
from infopt.reports import charts
from infopt.reports.page import Beside, Block, Cell, Figure, Items, Note, Table, Verdict, table
from infopt.reports.parts import sentence
from infopt.words import cosine, count, decibels, figure

GLOSSARY = (
    "max abs: the largest distance of a value from its reference.",
    "max rel: that distance, as a part of the largest value of the reference.",
    "SQNR: how much stronger the reference is than the difference; 20 dB more is a tenth of it.",
    "cosine: 1 where both point in the same direction.",
    "top-1: how often both have the largest score in the same place.",
)
"""What stands above the columns of errors."""


def exact_verdict(found: object) -> Verdict:
    """Whether outputs are the same, in short."""
    if not isinstance(found, Mapping):
        return Verdict("How exact", sentences.NOT_MEASURED, sentences.reason(found), "caution")
    limit, outputs = sentences.limit(found), found["outputs"].values()
    worst = max((float(row["max_relative"]) for row in outputs), default=0.0)
    least = min((float(row["sqnr_db"]) for row in outputs), default=math.inf)
    detail = f"largest relative error {figure(worst)}, {decibels(least)}"
    by_error = math.isfinite(float(found["tolerance"])) or limit == sentences.UNLIMITED
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
    yield table(f"{caption}, allowed: {sentences.limit(found)}", columns, rows)
    ran = f", {found['ran']}" if found.get("ran") else ""
    samples = list(found["samples"])
    yield Note(f"Compared with {found['reference']}{ran}, on {count(len(samples), 'sample')}.")
    yield Items(f"The {count(len(samples), 'sample')}", tuple(map(str, samples)), folded=True)
    yield Items("What the columns mean", GLOSSARY if classes else GLOSSARY[:-1], folded=True)


def layers(found: object) -> Iterator[Block]:
    """The error of each layer, and where both models part ways."""
    if not isinstance(found, Mapping):
        yield Note(f"Layer by layer: {found or sentences.NOT_MEASURED}.", "caution")
        return
    tensors, tolerance = found["tensors"], float(found["tolerance"])
    if not tensors:
        why = "; ".join(found["notes"])
        yield Note(f"Layer by layer: {sentences.NOT_MEASURED}: {why}.", "caution")
        return
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
                row["layer"] or sentences.ELSEWHERE,
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
        yield Note(sentence(note), "quiet")


def _legend(values: Sequence[tuple[str, float, bool]], tolerance: float) -> str:
    limit = f"; the dashed line is the limit, {tolerance:.2g}" if charts.is_drawn(tolerance) else ""
    legend = f"Each dot is a value inside{limit}."
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
