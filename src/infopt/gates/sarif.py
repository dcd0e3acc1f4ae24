"""Findings as SARIF 2.1.0 (OASIS), which code hosts show beside a change."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from infopt._version import __version__
from infopt.gates.findings import Check, Finding
from infopt.gates.limits import FINDINGS

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_RULES = {
    "interface": "Inputs and outputs keep their names, types and shapes.",
    "operators": "No operators are used that were not used before.",
    "fusions": "No fusion is lost.",
    "precision": "Products stay in the precision that was asked for.",
    "error": "Outputs stay close to the reference's.",
    "metric": "The task metric does not fall.",
    "latency": "A call does not take longer.",
    "cold-start": "The first answer does not take longer.",
    "memory": "A process does not need more memory.",
    "size": "The files do not grow.",
}


def render(check: Check) -> str:
    """The document; its results are the findings that count."""
    results = [_result(finding, check) for finding in check.findings if finding.counts]
    driver = {
        "name": "infopt",
        "version": __version__,
        "rules": [{"id": name, "shortDescription": {"text": _RULES[name]}} for name in FINDINGS],
    }
    run = {"tool": {"driver": driver}, "results": results, "columnKind": "unicodeCodePoints"}
    document = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(document, indent=1) + "\n"


def _result(finding: Finding, check: Check) -> dict[str, Any]:
    failing = finding.verdict == "worse" or not check.lenient
    # What was checked is a directory or binary; a place that can be shown is in the baseline.
    location = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(check.baseline)},
            "region": {"startLine": 1},
        },
        "logicalLocations": [{"fullyQualifiedName": check.subject, "kind": "module"}],
    }
    return {
        "ruleId": finding.name,
        "ruleIndex": FINDINGS.index(finding.name),
        "level": "error" if failing else "warning",
        "message": {"text": f"{check.subject}: {finding.sentence}"},
        "locations": [location],
        "partialFingerprints": {"finding/v1": f"{finding.name}:{check.subject}"},
    }


def _uri(path: str) -> str:
    pure = PurePath(path)
    return pure.as_uri() if pure.is_absolute() else quote(pure.as_posix())
