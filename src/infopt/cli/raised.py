"""What raising found and missed, as people read it: layers that are alike in one row."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from infopt.cli.console import table
from infopt.fusions import Site, State
from infopt.inspection import FusionInspection
from infopt.words import count

NOWHERE = NOTHING = "–"
"""A layer that names do not tell; nothing of an operator."""


def document(inspected: FusionInspection) -> dict[str, object]:
    """The inspection as ``--json`` prints it."""
    return {
        "name": inspected.name,
        "nodes_before": inspected.nodes_before,
        "nodes_after": inspected.nodes_after,
        "operators": inspected.fusions.as_dict(),
        "sites": [
            dataclasses.asdict(site) | {"state": site.state.value}
            for site in inspected.fusions.sites
        ],
        "shortfall": inspected.fusions.shortfall(),
    }


def view(inspected: FusionInspection) -> RenderableType:
    """The inspection as people read it."""
    found = inspected.fusions
    nodes = f"{inspected.nodes_before:,} → {inspected.nodes_after:,} nodes, cleaned and raised"
    parts: list[RenderableType] = [
        Text.assemble((inspected.name, "name"), "\n", (nodes, "quiet")),
        "",
    ]
    counts = found.as_dict()
    if not counts:
        looked = ", ".join(found.operators)
        return Group(*parts, Text(f"nothing to raise, nothing near it: {looked}"))
    parts += [_operators(counts), "", _layers(found.sites)] if found.sites else [_operators(counts)]
    missed = [site for site in found.sites if site.state is State.MISSED]
    if missed:
        parts += ["", _missed(missed)]
    if found.shortfall():
        parts += ["", Text(found.shortfall(), "bad")]
    return Group(*parts)


def summary(counts: Mapping[str, Mapping[str, int]]) -> str:
    """``12 Attention, 25 LayerNormalization; missed 1 Gelu``, from a manifest."""
    found = [f"{row['found']:,} {name}" for name, row in counts.items() if row["found"]]
    missed = [f"{row['missed']:,} {name}" for name, row in counts.items() if row["missed"]]
    text = ", ".join(found) or "nothing"
    return f"{text}; missed {', '.join(missed)}" if missed else text


def _operators(counts: Mapping[str, Mapping[str, int]]) -> RenderableType:
    """One row for each kind of operator."""
    expected = any("expected" in row for row in counts.values())
    headings = ("operator", ">found", ">raised", ">missed", *((">expected",) if expected else ()))
    drawn = table(*headings)
    for name, row in counts.items():
        cells: list[str | Text] = [f"{row['found']:,}", _number(row["raised"])]
        cells.append(Text(_number(row["missed"]), "caution" if row["missed"] else ""))
        if expected:
            wanted = row.get("expected")
            enough = wanted is None or row["found"] >= wanted
            cells.append(Text("" if wanted is None else f"{wanted:,}", "good" if enough else "bad"))
        drawn.add_row(Text(name, "name"), *cells)
    return drawn


def _layers(sites: Sequence[Site]) -> RenderableType:
    """One row for all layers that hold the same."""
    layers: dict[str, Counter[tuple[str, bool]]] = {}
    for site in sites:
        kind = site.operator, site.state is State.MISSED
        layers.setdefault(site.layer, Counter())[kind] += 1
    alike: dict[tuple[str, frozenset[tuple[tuple[str, bool], int]]], list[str]] = {}
    for layer, held in layers.items():
        stem = layer.rpartition(".")[0]
        alike.setdefault((stem, frozenset(held.items())), []).append(layer)
    grouped = len(alike) < len(layers)
    lacking = any(site.state is State.MISSED for site in sites)
    columns = ("where", *([""] if grouped else []), "found", *(["missed"] if lacking else []))
    drawn = table(*columns)
    for labels in alike.values():
        held = layers[labels[0]]
        found, missed = (
            ", ".join(f"{n:,} {operator}" for (operator, flag), n in held.items() if flag is wanted)
            for wanted in (False, True)
        )
        each = [Text("each" if len(labels) > 1 else "", "quiet")] if grouped else []
        last = [Text(missed, "caution")] if lacking else []
        drawn.add_row(Text(spell(labels), "name"), *each, found or NOTHING, *last)
    return drawn


def _missed(sites: Sequence[Site]) -> RenderableType:
    """Why: one row for all places with the same reason."""
    reasons: dict[tuple[str, str], list[Site]] = {}
    for site in sites:
        reasons.setdefault((site.operator, site.reason), []).append(site)
    drawn = table("missed", "where", "because")
    for (operator, reason), places in reasons.items():
        known = all(site.layer for site in places)
        first = places[0].node
        others = f" and {count(len(places) - 1, 'more', 'more')}" if len(places) > 1 else ""
        where = spell(site.layer for site in places) if known else f"{first}{others}"
        drawn.add_row(Text(operator, "name"), where, reason)
    return drawn


def spell(labels: Iterable[str]) -> str:
    """``layers.0–11, 13``: the layers of each stem in order, neighbours as a range."""
    stems: dict[str, set[int]] = {}
    for label in labels:
        stem, _, number = label.rpartition(".")
        stems.setdefault(stem, set()).update([int(number)] if number else [])
    words = []
    for stem, numbers in stems.items():
        ranges = _ranges(sorted(numbers))
        words.append(f"{stem}.{', '.join(ranges)}" if ranges else NOWHERE)
    return ", ".join(words)


def _ranges(numbers: Sequence[int]) -> list[str]:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return [f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]


def _number(value: int) -> str:
    return f"{value:,}" if value else "·"
