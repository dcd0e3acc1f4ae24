"""Findings as Markdown: the summary of a job, or a comment on a change."""

from __future__ import annotations

import re

from infopt.gates.findings import Check, Finding

_MARKS = {"better": "🟢", "same": "🟢", "worse": "🔴", "inconclusive": "🟡"}


def render(check: Check) -> str:
    """A heading, a table of all findings, and notes."""
    mark = _MARKS["same" if check.holds else check.verdict]
    lines = [
        f"### {mark} infopt: {_text(check.sentence)}",
        "",
        f"`{_code(check.subject)}` against `{_code(check.baseline)}`, {check.seconds:.0f} s",
        "",
        "| | | was | now | allowed | |",
        "| --- | --- | --: | --: | --: | --- |",
        *map(_row, check.findings),
        "",
        *(f"- {_text(note)}" for note in check.notes),
    ]
    return "\n".join(lines).rstrip("\n") + "\n\n"


def _row(finding: Finding) -> str:
    verdict = f"{finding.verdict}, allowed" if finding.allowed else finding.verdict
    mark = "⚪" if finding.allowed else _MARKS[finding.verdict]
    cells = (finding.was, finding.now, finding.limit, finding.sentence)
    return f"| {finding.name} | {mark} {verdict} | " + " | ".join(map(_text, cells)) + " |"


def _text(text: str) -> str:
    """``text`` as it stands: names of nodes come from models, and are nobody's mark-up."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&!@])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")
