"""Findings as JUnit XML: one test case each, in the form that Ant's schema has fixed."""

from __future__ import annotations

import datetime
import platform
import re
from xml.etree import ElementTree

from infopt.gates.findings import Check, Finding

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(check: Check) -> str:
    """The document; what is inconclusive and passes is a skipped case."""
    cases = {finding.name: _case(finding, check) for finding in check.findings}
    failures = sum(case.find("failure") is not None for case in cases.values())
    skipped = sum(case.find("skipped") is not None for case in cases.values())
    when = datetime.datetime.now(datetime.UTC).replace(tzinfo=None, microsecond=0)
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        {
            "package": "infopt",
            "id": "0",
            "name": _clean(f"infopt check {check.subject}"),
            "timestamp": when.isoformat(),
            "hostname": _clean(platform.node() or "localhost"),
            "tests": str(len(cases)),
            "failures": str(failures),
            "errors": "0",
            "skipped": str(skipped),
            "time": f"{check.seconds:.3f}",
        },
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in (("baseline", check.baseline), ("verdict", check.verdict)):
        ElementTree.SubElement(properties, "property", {"name": name, "value": _clean(value)})
    suite.extend(cases.values())
    ElementTree.SubElement(suite, "system-out").text = _clean("\n".join(check.notes))
    ElementTree.SubElement(suite, "system-err").text = ""
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, "unicode")}\n'


def _case(finding: Finding, check: Check) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", {"name": finding.name, "classname": "infopt.check", "time": "0"}
    )
    if not finding.counts:
        return case
    if finding.verdict == "inconclusive" and check.lenient:
        ElementTree.SubElement(case, "skipped")
        return case
    said = _clean(finding.sentence)
    failure = ElementTree.SubElement(case, "failure", {"message": said, "type": finding.verdict})
    figures = (("was", finding.was), ("now", finding.now), ("allowed", finding.limit))
    failure.text = _clean("\n".join(f"{name}: {value}" for name, value in figures if value))
    return case


def _clean(text: str) -> str:
    """``text`` without characters that XML cannot hold, such as a node's name may have."""
    return _NO_XML.sub("\ufffd", text)
