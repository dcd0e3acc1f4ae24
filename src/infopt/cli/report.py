"""The evidence of an engine as people read it: what changed, how exact, how fast, how large."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from infopt import sentences
from infopt.cli.console import table
from infopt.cli.raised import summary
from infopt.engine import Engine, Manifest
from infopt.words import cosine, count, decibels, duration, figure, size

SHOWN = 4
"""Samples that are listed one by one; the rest under ``-v``."""


def engine_report(engine: Engine, *, verbose: bool) -> RenderableType:
    """The whole report of an engine that was just written."""
    manifest = engine.manifest
    parts: list[RenderableType] = [changes(manifest, verbose=verbose)]
    if verbose:
        parts += refusals(manifest)
    if manifest.fusions:
        parts += ["", _heading("Operators", summary(manifest.fusions))]
    parts += ["", *evidence(manifest.evidence, verbose=verbose), "", sizes(engine), ""]
    parts.append(next_step(engine))
    return Group(*parts)


def changes(manifest: Manifest, *, verbose: bool) -> RenderableType:
    """What the passes did, pass by pass; every single run with ``verbose``."""
    before, after = manifest.sizes["nodes_before"], manifest.sizes["nodes_after"]
    nodes = f"{before:,} → {after:,} nodes" if before != after else count(after, "node")
    heading = _heading("What changed", nodes)
    rows = list(manifest.passes) if verbose else sentences.by_pass(manifest.passes)
    active = [row for row in rows if row["changes"]]
    if not active:
        return Group(heading, _indented(f"nothing: none of {count(len(rows), 'pass', 'passes')}"))
    drawn = table("", "pass", ">nodes", ">changes", ">time")
    for row in active:
        delta = row["nodes_after"] - row["nodes_before"]
        nodes = (
            f"{row['nodes_before']:,} → {row['nodes_after']:,}"
            if verbose
            else (f"{delta:+,}".replace("-", "−") if delta else "·")
        )
        drawn.add_row(
            "",
            sentences.short(row["spec"]),
            nodes,
            f"{len(row['changes']):,}",
            duration(row["seconds"]),
        )
    idle = len(rows) - len(active)
    if idle:
        seconds = sum(row["seconds"] for row in rows if not row["changes"])
        runs = count(idle, "run") if verbose else count(idle, "pass", "passes")
        drawn.add_row("", f"{runs} without a change", "", "", duration(seconds), style="quiet")
    return Group(heading, drawn)


def refusals(manifest: Manifest) -> list[RenderableType]:
    """Near matches that the passes left alone, and why; equal reasons together."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for run in manifest.passes:
        for refusal in run["refusals"]:
            key = (run["spec"], refusal["rule"], refusal["reason"])
            places = found.setdefault(key, [])
            if refusal["node"] not in places:
                places.append(refusal["node"])
    if not found:
        return []
    drawn = table("", "pass", "left alone at", "because")
    for (spec, rule, reason), places in found.items():
        where = places[0] + (f" and {len(places) - 1:,} more" if len(places) > 1 else "")
        name = spec.partition("{")[0]
        drawn.add_row("", name if rule == name else f"{name}: {rule}", where, reason)
    return ["", _heading("What was left alone"), drawn]


def evidence(found: Mapping[str, Any], *, verbose: bool) -> Iterator[RenderableType]:
    """How exact and how fast, with what could not be shown said plainly."""
    exported = found.get("export")
    if isinstance(exported, Mapping):
        yield equivalence(exported, "How exact is the export", verbose=verbose)
        yield ""
    exact = found.get("equivalence", "not measured")
    if isinstance(exact, Mapping):
        yield equivalence(exact, "How exact", verbose=verbose)
    else:
        yield _unknown("How exact", str(exact))
    yield from _precision(found)
    if isinstance(found.get("mixed"), Mapping):
        yield from mixed(found["mixed"], verbose=verbose)
    culprit = found.get("culprit")
    if isinstance(culprit, Mapping):
        where = f", rule {culprit['rule']} at {culprit['node']}" if culprit.get("rule") else ""
        yield _indented(f"guilty: {culprit['step']}{where}", "bad")
    if isinstance(found.get("engine"), str):
        yield _indented(f"engine: {found['engine']}", "caution")
    elif isinstance(found.get("target"), str):
        yield _indented(f"on the target: {found['target']}", "caution")
    yield ""
    fast = found.get("speed", "not measured")
    if isinstance(fast, Mapping):
        yield speed(fast)
    else:
        yield _unknown("How fast", str(fast))


def equivalence(found: Mapping[str, Any], title: str, *, verbose: bool) -> RenderableType:
    """A comparison: a row for each output, and on which inputs it was made."""
    holds = not found["failing"]
    allowed, least = float(found["tolerance"]), float(found.get("least_sqnr", "-inf"))
    limit = sentences.limit(found)
    verdict = Text(
        f"every output within {limit}"
        if holds
        else f"{count(len(found['failing']), 'sample')} beyond {limit}",
        "good" if holds else "bad",
    )
    classes = any(row.get("top1") is not None for row in found["outputs"].values())
    drawn = table(
        "", "output", ">max abs", ">max rel", ">SQNR", ">cosine", *([">top-1"] if classes else [])
    )
    for name, row in found["outputs"].items():
        cells: list[str | Text] = [
            figure(float(row["max_absolute"])),
            Text(
                figure(float(row["max_relative"])),
                "" if float(row["max_relative"]) <= allowed else "bad",
            ),
            Text(decibels(float(row["sqnr_db"])), "" if float(row["sqnr_db"]) >= least else "bad"),
            cosine(float(row["cosine"])),
        ]
        if classes:
            cells.append("–" if row.get("top1") is None else f"{row['top1']:.1%}")
        drawn.add_row("", Text(name, "name"), *cells)
    parts: list[RenderableType] = [_heading(title, verdict), drawn]
    parts += _conditions(found, verbose=verbose)
    return Group(*parts)


def _precision(found: Mapping[str, Any]) -> Iterator[RenderableType]:
    """On what was calibrated, and which types the runtime really computes in."""
    for calibration in found.get("calibration", ()):
        made_up = ", made up: real inputs may reach further" if calibration["synthetic"] else ""
        samples, values = calibration["samples"], calibration["values"]
        by = f", by {calibration['file']}" if calibration.get("file") else ""
        yield _indented(
            f"{count(values, 'value')} calibrated on {count(samples, 'sample')}{by}{made_up}",
            "caution" if made_up else "quiet",
        )
    outcome = found.get("outcome")
    if not isinstance(outcome, Mapping):
        return
    for note in outcome.get("notes", ()):
        yield _indented(note, "caution")
    for said in sentences.outcome(outcome):
        yield _indented(said, "quiet")
    if outcome["floating"]:
        yield _indented(f"not so: {', '.join(outcome['floating'])}", "caution")


def mixed(found: Mapping[str, Any], *, verbose: bool) -> Iterator[RenderableType]:
    """Which nodes were kept in float, for which limits, and what finding them took."""
    kept = found["kept"]
    yield _indented(sentences.mixed(found), "quiet" if found["holds"] else "bad")
    if not kept:
        return
    drop = any(row["drop"] is not None for row in kept)
    drawn = table(
        "", "kept in float", "operator", ">SQNR alone", *([">lost alone"] if drop else [])
    )
    shown = kept if verbose or len(kept) <= SHOWN else kept[:SHOWN]
    for row in shown:
        lost = [] if row["drop"] is None else [f"{float(row['drop']):.3g}"]
        name = Text(row["node"], "name")
        drawn.add_row("", name, row["operator"], decibels(float(row["sqnr_db"])), *lost)
    yield drawn
    if len(shown) < len(kept):
        yield _indented(f"  and {len(kept) - len(shown)} more (-v shows them)", "quiet")


def _conditions(found: Mapping[str, Any], *, verbose: bool) -> Iterator[RenderableType]:
    """What a comparison was made with and on, and what it does not show."""
    ran = f", {found['ran']}" if found.get("ran") else ""
    samples = list(found["samples"])
    on = count(len(samples), "sample")
    yield _indented(f"compared with {found['reference']}{ran}, on {on}", "quiet")
    shown = samples if verbose or len(samples) <= SHOWN else samples[:SHOWN]
    for sample in shown:
        yield _indented(f"  {sample}", "quiet")
    if len(shown) < len(samples):
        yield _indented(f"  and {len(samples) - len(shown)} more (-v shows them)", "quiet")
    if found.get("undetermined"):
        names = ", ".join(found["undetermined"])
        yield _indented(f"not comparable, the original itself varies: {names}", "caution")
    for note in found.get("notes", ()):
        yield _indented(note, "caution")


def speed(found: Mapping[str, Any], title: str = "How fast") -> RenderableType:
    """An interleaved measurement: a row for each subject, ratios to the first."""
    drawn = table("", "", ">median", ">p90", ">p99", ">speed", "interval", "")
    for number, (name, row) in enumerate(found["subjects"].items()):
        ratio, baseline = row["ratio"], number == 0
        verdict = "baseline" if baseline else str(ratio["verdict"])
        drawn.add_row(
            "",
            Text(name, "name"),
            *(duration(row[key]) for key in ("median", "p90", "p99")),
            f"{ratio['value']:.2f}×",
            "" if baseline else f"{ratio['low']:.2f}–{ratio['high']:.2f}",
            Text(verdict, {"better": "good", "worse": "bad"}.get(verdict, "quiet")),
        )
    ratios = [row["ratio"] for row in found["subjects"].values()]
    how = f"interleaved, {count(found['rounds'], 'round')} in {duration(found['seconds'])}"
    if len(ratios) > 1:
        how += f"; intervals hold with {ratios[-1]['confidence']:.0%} confidence"
    if found.get("noise") is not None:
        how += f"; the same model twice differs by {found['noise']:.1%}"
    return Group(_heading(title, f"at {found['sample']}"), drawn, _indented(how, "quiet"))


def sizes(engine: Engine) -> RenderableType:
    """Bytes of the weights before and after, and of the engine on disk."""
    before, after = (size(engine.manifest.sizes[f"weights_{when}"]) for when in ("before", "after"))
    weights = f"{before} → {after}" if before != after else after
    return _heading("How large", f"{weights} of weights, {size(engine.nbytes)} on disk")


def next_step(engine: Engine) -> RenderableType:
    """The line of Python that loads the engine."""
    names = ", ".join(f"{spec.name}=…" for spec in engine.manifest.inputs)
    call = f"session({names})" if names.replace("=…", "").replace(", ", "").isidentifier() else ""
    drawn = table("", "")
    drawn.add_row(Text("Load it", "name"), f"session = infopt.load({str(engine.path)!r})")
    if call:
        drawn.add_row("", f"outputs = {call}")
    return drawn


def _heading(title: str, note: str | Text = "") -> Text:
    return Text.assemble((title, "name"), "  ", note)


def _unknown(title: str, reason: str) -> Text:
    return _heading(title, Text(reason, "caution"))


def _indented(text: str, style: str = "") -> RenderableType:
    return Padding(Text(text, style), (0, 0, 0, 2), expand=False)


def manifest_summary(engine: Engine) -> RenderableType:
    """What an engine is and where it comes from."""
    manifest = engine.manifest
    source = manifest.source
    drawn = table("", "")
    rows = {
        "engine for": f"{manifest.target}, {manifest.precision}",
        "made from": " · ".join(
            str(source[key]) for key in ("name", "kind", "digest") if source.get(key)
        ),
        "model": manifest.model_digest,
        "pipeline": manifest.pipeline or "no passes",
        "operators": summary(manifest.fusions),
        "made with": ", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
        "made on": ", ".join(map(str, manifest.hardware.values())),
    }
    for name, value in rows.items():
        drawn.add_row(Text(name, "head"), value)
    for name, entry in manifest.files.items():
        drawn.add_row(Text("file", "head"), f"{name} · {size(int(entry['bytes']))}")
    return drawn
