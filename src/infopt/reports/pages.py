"""The reports there are: of an engine, a comparison, a benchmark, a check.

Each is drawn from the document that the command prints with ``--json``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from infopt import sentences
from infopt.engine import Engine
from infopt.reports import changes, exactness, parts, times
from infopt.reports.page import Block, Cell, Facts, Items, Note, Page, Section, Verdict, table
from infopt.words import count, decibels, duration, figure, quantity, size

_ASKED = "What was asked"


def engine_page(engine: Engine, asked: Mapping[str, str], inside: Mapping[str, Any]) -> Page:
    """The report of an engine that was just written.

    Args:
        engine: The engine.
        asked: What the user asked for, in words, beside what the manifest knows.
        inside: What :func:`infopt.reports.inside.look_inside` has found: ``layers``, ``profile``
            and ``precision``, or in words why there is none.
    """
    manifest = engine.manifest
    evidence, sizes = manifest.evidence, manifest.sizes
    exact, fast = evidence.get("equivalence"), evidence.get("speed")
    before, after = sizes["nodes_before"], sizes["nodes_after"]
    return Page(
        title=f"Engine {engine.path.name}",
        lead=f"{manifest.source.get('name', 'A model')}, compiled for {manifest.target} at "
        f"{manifest.precision}.",
        verdicts=(
            exactness.exact_verdict(exact),
            times.speed_verdict(fast),
            changes.size_verdict(sizes["weights_before"], sizes["weights_after"], engine.nbytes),
            changes.nodes_verdict(before, after),
        ),
        sections=(
            Section(_ASKED, tuple(_asked(engine, asked))),
            Section("How exact it is", tuple(_exact(evidence, inside))),
            Section("How fast it is", tuple(_fast(fast))),
            Section("Where the time goes", tuple(times.profile(inside.get("profile")))),
            Section("What changed", tuple(_changed(engine))),
            Section("Which types it computes in", tuple(_precision(evidence, inside))),
            Section("The evidence and its limits", tuple(_limits(engine, inside))),
        ),
    )


def _asked(engine: Engine, asked: Mapping[str, str]) -> Iterator[Block]:
    manifest = engine.manifest
    source = manifest.source
    yield Facts(
        (
            ("Model", str(source.get("name", "–"))),
            ("Kind", str(source.get("kind", "–"))),
            ("Digest", str(source.get("digest", "–"))),
            ("Target", manifest.target),
            ("Precision", manifest.precision),
            *asked.items(),
        )
    )
    yield Items("The pipeline", (manifest.pipeline or "no passes",), folded=True)


def _exact(evidence: Mapping[str, Any], inside: Mapping[str, Any]) -> Iterator[Block]:
    for key, caption in (("export", "The export"), ("equivalence", "The engine")):
        found = evidence.get(key)
        if isinstance(found, Mapping):
            yield from exactness.equivalence(found, caption)
        elif key == "equivalence":
            yield Note(f"{found or sentences.NOT_MEASURED}", "caution")
    culprit = evidence.get("culprit")
    if isinstance(culprit, Mapping):
        where = f", rule {culprit['rule']} at {culprit['node']}" if culprit.get("rule") else ""
        yield Note(f"Guilty: {culprit['step']}{where}.", "bad")
    yield from exactness.layers(inside.get("layers"))


def _fast(found: object) -> Iterator[Block]:
    if isinstance(found, Mapping):
        yield from times.speed(found)
    else:
        yield Note(f"{found or sentences.NOT_MEASURED}", "caution")


def _changed(engine: Engine) -> Iterator[Block]:
    manifest = engine.manifest
    yield from changes.changes(manifest.passes, manifest.operators)
    yield from changes.fusions(manifest.fusions)


def _precision(evidence: Mapping[str, Any], inside: Mapping[str, Any]) -> Iterator[Block]:
    yield from changes.precision(inside.get("precision"))
    if isinstance(evidence.get("mixed"), Mapping):
        yield from changes.mixed(evidence["mixed"])
    outcome = evidence.get("outcome")
    if not isinstance(outcome, Mapping):
        why = outcome or f"{sentences.NOT_MEASURED} for this target"
        yield Note(f"What the runtime makes of it: {why}.", "caution")
        return
    for note in outcome.get("notes", ()):
        yield Note(note, "caution")
    for said in sentences.outcome(outcome):
        yield Note(parts.sentence(said))
    if outcome["floating"]:
        yield Items("Not so", tuple(outcome["floating"]), folded=True)
    rows = [(name, f"{number:,}") for name, number in outcome["kernels"].items()]
    yield table("What the runtime makes of it", "kernel! >nodes", rows, folded=True)


def _limits(engine: Engine, inside: Mapping[str, Any]) -> Iterator[Block]:
    manifest = engine.manifest
    evidence = manifest.evidence
    named = {
        "Outputs against the original": evidence.get("equivalence"),
        "Export against the framework": evidence.get("export", "there is no framework to ask"),
        "Speed beside the original": evidence.get("speed"),
        "The layers inside": inside.get("layers"),
        "Time of each node": inside.get("profile"),
        "The target itself": evidence.get("target", "the same as this machine's runtime"),
        "Native code": evidence.get("engine", "the target has none"),
    }
    rows = [(what, *_shown(found)) for what, found in named.items()]
    yield table("What was shown, and what was not", "what shown on_what", rows)
    notes = [
        note
        for found in evidence.values()
        if isinstance(found, Mapping)
        for note in (*found.get("notes", ()), *map(_varies, found.get("undetermined", ())))
    ]
    if notes:
        yield Items("To be known", tuple(dict.fromkeys(map(str, notes))))
    calibrated = evidence.get("calibration", ())
    for text in dict.fromkeys(map(_calibrated, calibrated)):
        yield Note(text, "caution" if "made up" in text else "")
    yield parts.conditions(manifest.versions, manifest.hardware)


def _calibrated(found: Mapping[str, Any]) -> str:
    made_up = ", which were made up: real inputs may reach further" if found["synthetic"] else ""
    by = f", by {found['file']}" if found.get("file") else ""
    samples = count(found["samples"], "sample")
    return f"{count(found['values'], 'value')} were calibrated on {samples}{by}{made_up}."


def _varies(output: str) -> str:
    return f"{output} is not comparable: the original itself varies"


def _shown(found: object) -> tuple[Cell, str]:
    if isinstance(found, Mapping):
        samples = found.get("samples")
        on = found.get("sample") or (count(len(samples), "sample") if samples else "")
        return Cell("✓ measured", "good"), str(on)
    text = str(found or sentences.NOT_MEASURED)
    if text.startswith(sentences.NOT_MEASURED):
        return Cell(sentences.NOT_MEASURED, "caution"), sentences.reason(text)
    return Cell("–", "quiet"), text


def comparison_page(found: Mapping[str, Any]) -> Page:
    """The report of ``infopt compare``, from its document."""
    layers = found["per_layer"]
    first = layers["first"]
    if not layers["tensors"]:
        why = "; ".join(layers["notes"])
        parting = Verdict("Where they part", sentences.NOT_MEASURED, why, "caution")
    elif first is None:
        parting = Verdict("Where they part", "nowhere inside")
    else:
        relative, sqnr = (float(first["difference"][key]) for key in ("max_relative", "sqnr_db"))
        detail = f"relative error {figure(relative)}, {decibels(sqnr)}"
        parting = Verdict("Where they part", _place(first), detail, "bad")
    exact: list[Block] = list(exactness.equivalence(found, "The outputs"))
    if not found["holds"] and layers["tensors"] and first is None:
        text = (
            "Outputs differ though nothing inside does: the runtime's own optimizations are guilty."
        )
        exact.append(Note(text, "bad"))
    asked = (
        ("Candidate", str(found["candidate"])),
        ("Reference", str(found["reference_name"])),
        ("Inputs", f"{count(len(found['samples']), 'sample')}: {found['samples'][0]} …"),
    )
    return Page(
        title=f"{_name(found['candidate'])} beside {_name(found['reference_name'])}",
        lead="Do they compute the same, and where do they part ways?",
        verdicts=(exactness.exact_verdict(found), parting),
        sections=(
            Section(_ASKED, (Facts(asked),)),
            Section("How exact it is", tuple(exact)),
            Section("Layer by layer", tuple(exactness.layers(layers))),
            Section("The evidence and its limits", tuple(_noted(found))),
        ),
    )


def _place(tensor: Mapping[str, Any]) -> str:
    return str(tensor["layer"] or tensor["node"] or tensor["value"])


def _name(path: object) -> str:
    return str(path).rstrip("/").rpartition("/")[2] or str(path)


def _noted(found: Mapping[str, Any]) -> Iterator[Block]:
    notes = [*found.get("notes", ()), *map(_varies, found.get("undetermined", ()))]
    yield (
        Items("To be known", tuple(map(str, notes)))
        if notes
        else Note("All outputs were compared.")
    )
    yield parts.conditions(found["versions"], found["hardware"])


def benchmark_page(found: Mapping[str, Any]) -> Page:
    """The report of ``infopt bench``, from its document."""
    runs = found["runs"]
    subjects = list(found["subjects"])
    baseline = f"the baseline is {subjects[0]}"
    verdicts = []
    for run in runs:
        for name, row in list(run["subjects"].items())[1:]:
            at = f"at {run['sample']}"
            verdicts.append(times.ratio_verdict(_name(name), row["ratio"], at))
    if not verdicts:
        row = next(iter(runs[0]["subjects"].values()))
        verdicts = [Verdict("Median", duration(row["median"]), f"at {runs[0]['sample']}")]
    return Page(
        title=_title(list(dict.fromkeys(map(_name, subjects)))),
        lead=f"How fast they are, in one run; {baseline}.",
        verdicts=tuple(verdicts),
        sections=(
            Section(_ASKED, (Facts(tuple(("Subject", str(name)) for name in subjects)),)),
            Section("How fast they are", tuple(it for run in runs for it in times.speed(run))),
            Section("What they need", tuple(_needs(found.get("needs", {})))),
            Section(
                "The evidence and its limits",
                (
                    Note("What they compute was not compared; infopt compare does that."),
                    parts.conditions(found["versions"], found["hardware"]),
                ),
            ),
        ),
    )


def _needs(found: Mapping[str, Mapping[str, Any]]) -> Iterator[Block]:
    """What each subject needs besides; a column for whatever was measured of any."""
    columns: dict[str, tuple[str, Callable[[Any], str]]] = {
        ">on_disk": ("bytes", size),
        ">built_in": ("built", duration),
        ">a_second": ("requests_per_second", quantity),
        ">a_million_cost": ("cost", lambda cost: f"{cost:,.2f}"),
        ">first_answer": ("cold_start", duration),
        ">memory": ("peak_rss", size),
    }
    shown = {
        title: column
        for title, column in columns.items()
        if any(needs.get(column[0]) for needs in found.values())
    }
    rows = [
        (name, *(said(needs[key]) if needs.get(key) else "–" for key, said in shown.values()))
        for name, needs in found.items()
    ]
    if shown:
        yield table("In files, in time, and in memory", " ".join(["subject!", *shown]), rows)
    else:
        yield Note(f"{sentences.NOT_MEASURED.capitalize()}.", "quiet")


def _title(names: Sequence[str]) -> str:
    """``B beside A``, ``B and C beside A``."""
    *rest, last = names[1:] or names
    others = f"{', '.join(rest)} and {last}" if rest else last
    return f"{others} beside {names[0]}" if names[1:] else names[0]


def check_page(found: Mapping[str, Any]) -> Page:
    """The report of ``infopt check``, from its document.

    Args:
        found: ``subject``, ``baseline``, ``holds``, ``verdict``, ``notes``, ``seconds``, and
            ``findings``: each with ``name``, ``verdict``, ``sentence``, and perhaps ``was``,
            ``now``, ``limit`` and ``allowed``.
    """
    findings = found["findings"]
    rows = [
        (
            row["name"],
            Cell(
                _finding(row),
                "quiet" if row.get("allowed") else times.STATES.get(row["verdict"], ""),
            ),
            row.get("was") or "–",
            row.get("now") or "–",
            row.get("limit") or "–",
            row["sentence"],
        )
        for row in findings
    ]
    counted = [row for row in findings if not row.get("allowed")]
    worse = sum(row["verdict"] == "worse" for row in counted)
    unknown = sum(row["verdict"] == "inconclusive" for row in counted)
    answer = "✓ passed" if found["holds"] else "✗ failed"
    return Page(
        title=f"Check of {_name(found['subject'])}",
        lead=f"Held against {found['baseline']}.",
        verdicts=(
            Verdict("The gate", answer, str(found["verdict"]), "good" if found["holds"] else "bad"),
            Verdict("Worse", f"{worse:,} of {len(findings):,}", state="bad" if worse else "good"),
            Verdict(
                "Inconclusive",
                f"{unknown:,} of {len(findings):,}",
                state="caution" if unknown else "",
            ),
        ),
        sections=(
            Section(
                "What was compared",
                (table("The findings", "what verdict was now limit sentence", rows),),
            ),
            Section("The evidence and its limits", tuple(_checked(found))),
        ),
    )


def _finding(row: Mapping[str, Any]) -> str:
    return f"{row['verdict']}, allowed" if row.get("allowed") else str(row["verdict"])


def _checked(found: Mapping[str, Any]) -> Iterator[Block]:
    yield Note(f"The check took {duration(float(found['seconds']))}.")
    if found.get("notes"):
        yield Items("To be known", tuple(map(str, found["notes"])))
    if found.get("versions") and found.get("hardware"):
        yield parts.conditions(found["versions"], found["hardware"])
