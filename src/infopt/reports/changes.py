"""What was changed: passes, operators, fusions, types, and how much smaller it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infopt import sentences
from infopt.reports.page import Beside, Block, Cell, Items, Note, Verdict, table
from infopt.reports.parts import ROWS, sentence, top
from infopt.words import count, decibels, duration, size

_NOTABLE = 1.05
"""Weights so many times smaller are worth the headline."""


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
    for row in sentences.by_pass(runs):
        if not row["changes"]:
            idle.append(sentences.short(row["spec"]))
            continue
        delta = row["nodes_after"] - row["nodes_before"]
        rows.append(
            (
                sentences.short(row["spec"]),
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
            key = sentences.short(run["spec"]), refusal["reason"]
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
        yield Note(f"Operators before and after: {sentences.NOT_MEASURED}.", "caution")
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
    yield from top("Operators before and after", "operator! >before >after", rows, "operator")


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
        rows.append((layer or sentences.ELSEWHERE, *cells))
    caption = "Products with weights, by the type in which these are stored"
    yield table(caption, "layer! " + " ".join(f">{kind}" for kind in types), rows)


def mixed(found: Mapping[str, Any]) -> Iterator[Block]:
    """Which nodes a budget kept in float, and whether it holds."""
    kept = found["kept"]
    drop = any(row.get("drop") is not None for row in kept)
    rows = [
        (
            row["node"],
            row["operator"],
            decibels(float(row["sqnr_db"]), 1),
            *([f"{float(row['drop']):.3g}"] if drop else []),
        )
        for row in kept
    ]
    yield Note(sentence(sentences.mixed(found)), "" if found["holds"] else "bad")
    if rows:
        columns = "node! operator >SQNR_alone" + (" >lost_alone" if drop else "")
        yield table("Kept in float", columns, rows, folded=len(rows) > ROWS)


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
