"""What manifests say, in words: the same for the terminal and for pages."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from infopt.words import count, decibels

NOT_MEASURED = "not measured"
UNLIMITED = "any distance"
ELSEWHERE = "(no layer)"
"""What values are called that belong to no layer."""


def by_pass(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each pass of a trace, its runs added up: their node counts as one difference."""
    rows: dict[str, dict[str, Any]] = {}
    for run in runs:
        row = rows.setdefault(
            run["spec"],
            {"spec": run["spec"], "seconds": 0.0, "nodes_before": 0, "nodes_after": 0}
            | {"changes": [], "refusals": []},
        )
        row["seconds"] += run["seconds"]
        row["nodes_after"] += run["nodes_after"] - run["nodes_before"]
        row["changes"] += run["changes"]
        row["refusals"] += run["refusals"]
    return list(rows.values())


def short(spec: str) -> str:
    """A pass as it is written, but for the names of nodes that it keeps: these may be many."""
    return re.sub(r'keep=("(?:[^"\\]|\\.)*"|[^,}]*)', "keep=…", spec)


def provider(name: str) -> str:
    """An execution provider as people call it: ``CPU``."""
    return name.removesuffix("ExecutionProvider")


def limit(equivalence: Mapping[str, Any]) -> str:
    """How far outputs might be apart: ``0.0001``, ``10 dB``, both, or ``any distance``."""
    allowed = float(equivalence["tolerance"])
    least = float(equivalence.get("least_sqnr", "-inf"))
    limits = [f"{allowed:.2g}"] if math.isfinite(allowed) else []
    limits += [f"{least:.0f} dB"] if math.isfinite(least) else []
    return " and ".join(limits) or UNLIMITED


def reason(found: object) -> str:
    """Why something was not measured, where only that is known."""
    return str(found).removeprefix(NOT_MEASURED).lstrip(": ") if found else ""


def outcome(found: Mapping[str, Any]) -> list[str]:
    """What a runtime makes of an engine: on what products run, which layers a plan has, advice."""
    said = []
    total = found["integer"] + len(found["floating"])
    if total:
        on = found.get("on", "integers")
        kind = "product" if "float16" in on else "quantized product"
        rounding = found.get("rounding", 0)
        rounds = f"; {rounding:,} round their inputs to 8 bits as they run" if rounding else ""
        said.append(f"{found['integer']:,} of {count(total, kind)} run on {on}{rounds}")
    if found.get("layers"):
        said.append(
            f"{count(len(found['layers']), 'layer')} in the plan: {found['regions']:,} of several "
            f"nodes, {found['reformats']:,} that only change a format"
        )
    return [*said, *found.get("advice", ())]


def mixed(found: Mapping[str, Any]) -> str:
    """Whether limits hold, and with how many nodes in float."""
    limits, nodes = " and ".join(_limits(found["limits"])), count(found["nodes"], "node")
    kept = found["kept"]
    if not found["holds"]:
        return f"{limits}: not held even with all {nodes} in float"
    if not kept:
        return f"{limits}: held with every node quantized"
    none = decibels(float(found["trials"][0]["sqnr_db"]))
    return (
        f"{limits}: held with {len(kept):,} of {nodes} in float ({none} with none), "
        f"{count(found['evaluations'], 'engine')} tried"
    )


def _limits(limits: Mapping[str, Any]) -> list[str]:
    said = []
    if "max_relative" in limits:
        said.append(f"relative error {limits['max_relative']:.3g}")
    if "sqnr_db" in limits:
        said.append(f"{limits['sqnr_db']:g} dB")
    if "metric" in limits:
        said.append(f"{limits['drop']:g} of {limits['metric']} lost")
    return said
