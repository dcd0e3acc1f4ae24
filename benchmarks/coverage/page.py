"""The page of the matrix: ``docs/fusion-coverage.md``, made from its JSON and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

JSON = Path("docs/fusion-coverage.json")
PAGE = Path("docs/fusion-coverage.md")

COLUMNS = tuple(
    (exporter, attention, mask)
    for exporter in ("dynamo", "torchscript")
    for attention in ("eager", "sdpa")
    for mask in ("mask", "plain")
)
"""The cells of a row; a family without attention stands in the first column without a mask."""

Row = Mapping[str, Any]


def write(document: Mapping[str, Any]) -> None:
    """Write both files."""
    JSON.write_text(json.dumps(document, indent=1) + "\n")
    PAGE.write_text(render(document))


def totals(cells: Sequence[Row]) -> tuple[int, int]:
    """How many sites were found, and how many expected, over all cells that exist."""
    exported = [cell for cell in cells if not cell["error"]]
    return (
        sum(sum(cell["found"].values()) for cell in exported),
        sum(sum(cell["expected"].values()) for cell in exported),
    )


def render(document: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    cells: list[Row] = document["cells"]
    found, expected = totals(cells)
    exported = [cell for cell in cells if not cell["error"]]
    whole = sum(sum(cell["whole"].values()) for cell in exported)
    worst = max((cell["difference"] for cell in exported), default=0.0)
    families = dict.fromkeys(cell["family"] for cell in cells)
    lines = [
        "# What raising finds",
        "",
        f"**{found:,} of {expected:,} expected sites ({found / expected:.1%})**, {whole:,} of them "
        f"whole in the export and {found - whole:,} raised from their parts, in "
        f"{len(exported)} exports of {len(families)} model families; outputs differ by at most "
        f"{worst:.0e} of the largest, at both shapes, from those of the export.",
        "",
        "Each family has its real architecture at a small size, two layers, and seeded random "
        "weights. It is exported by both of PyTorch's exporters, with both implementations of "
        "attention, with and without a padding mask; what is expected of each was written down "
        "from the architecture "
        "([families.py](../benchmarks/coverage/families.py)). `python -m benchmarks.coverage` "
        "makes this page; a test makes part of it again and compares.",
        "",
        "Versions: " + ", ".join(f"{k} {v}" for k, v in document["versions"].items()) + ".",
        "",
        "## Families",
        "",
        "Found of expected, in all cells; nodes of the whole model before and after raising, in "
        "the first cell.",
        "",
        "| Family | Sites | Cells | Nodes | Difference |",
        "|---|---|--:|--:|--:|",
        *(_family(name, [c for c in cells if c["family"] == name]) for name in families),
        "",
        "## Cells",
        "",
        "✓ all sites found · – cannot be exported (below) · blank: no such cell. *mask*: with a "
        "padding mask. *cached*: behind keys and values of former calls.",
        "",
        "| Family | " + " | ".join(_head(column) for column in COLUMNS) + " |",
        "|---|" + ":-:|" * len(COLUMNS),
        *(_row(name, [c for c in cells if c["family"] == name]) for name in families),
        "",
        "## Misses",
        "",
        *_misses(exported),
        "",
        "## What the exporters refuse",
        "",
        *_errors([cell for cell in cells if cell["error"]]),
    ]
    return "\n".join(lines) + "\n"


def _family(name: str, cells: Sequence[Row]) -> str:
    exported = [cell for cell in cells if not cell["error"]]
    if not exported:
        return f"| {name} | – | 0 of {len(cells)} | – | – |"
    sites = {
        operator: (
            sum(cell["found"][operator] for cell in exported),
            sum(cell["expected"][operator] for cell in exported),
        )
        for operator in exported[0]["expected"]
    }
    text = ", ".join(f"{operator} {a}/{b}" for operator, (a, b) in sites.items())
    before, after = exported[0]["nodes"]
    worst = max(cell["difference"] for cell in exported)
    count = str(len(cells)) if len(exported) == len(cells) else f"{len(exported)} of {len(cells)}"
    return f"| {name} | {text} | {count} | {before} → {after} | {worst:.0e} |"


def _head(column: tuple[str, str, str]) -> str:
    exporter, attention, mask = column
    return f"{exporter} {attention}" + (" mask" if mask == "mask" else "")


def _row(name: str, cells: Sequence[Row]) -> str:
    marks = {tuple(cell["cell"].removeprefix(f"{name}-").split("-")): cell for cell in cells}
    texts = []
    for exporter, attention, mask in COLUMNS:
        cell = marks.get((exporter, attention, mask))
        if cell is None and attention == "eager":
            cell = marks.get((exporter, "none", mask))
        texts.append(_mark(cell))
    return f"| {name} | " + " | ".join(texts) + " |"


def _mark(cell: Row | None) -> str:
    if cell is None:
        return ""
    if cell["error"]:
        return "–"
    found, expected = sum(cell["found"].values()), sum(cell["expected"].values())
    return "✓" if found == expected else f"{found}/{expected}"


def _misses(cells: Sequence[Row]) -> Iterator[str]:
    missed = [cell for cell in cells if cell["found"] != cell["expected"]]
    if not missed:
        yield "None."
    for cell in missed:
        lacking = ", ".join(
            f"{wanted - cell['found'][operator]} {operator}"
            for operator, wanted in cell["expected"].items()
            if cell["found"][operator] < wanted
        )
        reasons = "; ".join(cell["misses"]) or "nothing resembles it"
        yield f"- {cell['cell']}: {lacking} ({reasons})"


def _errors(cells: Sequence[Row]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for cell in cells:
        groups.setdefault(cell["error"], []).append(cell["cell"])
    if not groups:
        yield "Nothing."
    for error, names in groups.items():
        yield f"- {', '.join(names)}: `{error.replace('`', chr(39))}`"
