"""Findings as JUnit, SARIF and Markdown."""

from __future__ import annotations

import json

import pytest

from infopt.gates import junit, markdown, sarif
from infopt.gates.findings import Check, Finding
from tests.support.gates import check
from tests.support.schemas import SARIF, mistakes, validate_junit

GREEN = check(Finding("size", "same", "as before"), notes=("another machine",))
NASTY = "node \x00\x1b[31m <b>&amp;|`x` ]]> 'é' \ud800"
RED = check(
    Finding("size", "same", "as before", "1 MB", "1 MB", "+5.0%"),
    Finding("error", "worse", NASTY, "1e-7", "1", "1e-4"),
    Finding("latency", "inconclusive", "too few rounds"),
    Finding("operators", "worse", "Cast", allowed=True),
    subject="a dir/model.engine",
    baseline="ci/base line.json",
)
LENIENT = check(*RED.findings, lenient=True)


@pytest.mark.parametrize("found", [GREEN, RED, LENIENT, check()])
def test_junit_keeps_to_its_schema(found: Check) -> None:
    root = validate_junit(junit.render(found).encode("utf-8", "surrogatepass").decode())
    cases = root.findall("testsuite/testcase")
    assert [case.attrib["name"] for case in cases] == [it.name for it in found.findings]


def test_junit_fails_what_counts() -> None:
    (suite,) = validate_junit(junit.render(RED))
    assert [suite.attrib[name] for name in ("tests", "failures", "skipped")] == ["4", "2", "0"]
    failure = suite.find("testcase[@name='error']/failure")
    assert failure is not None
    assert failure.attrib["type"] == "worse"
    assert failure.attrib["message"] == "node ��[31m <b>&amp;|`x` ]]> 'é' �"
    assert failure.text == "was: 1e-7\nnow: 1\nallowed: 1e-4"
    (suite,) = validate_junit(junit.render(LENIENT))
    assert [suite.attrib[name] for name in ("tests", "failures", "skipped")] == ["4", "1", "1"]


@pytest.mark.parametrize("found", [GREEN, RED, LENIENT, check()])
def test_sarif_keeps_to_its_schema(found: Check) -> None:
    assert mistakes(json.loads(sarif.render(found)), SARIF) == []
    broken = json.loads(sarif.render(RED))
    broken["runs"][0]["results"][0]["level"] = "terrible"
    assert mistakes(broken, SARIF)


def test_sarif_has_a_result_for_what_counts() -> None:
    (run,) = json.loads(sarif.render(RED))["runs"]
    results = run["results"]
    assert [(it["ruleId"], it["level"]) for it in results] == [
        ("error", "error"),
        ("latency", "error"),
    ]
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[it["ruleIndex"]]["id"] == it["ruleId"] for it in results)
    place = results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place == "ci/base%20line.json"
    (run,) = json.loads(sarif.render(LENIENT))["runs"]
    assert run["results"][1]["level"] == "warning"
    (run,) = json.loads(sarif.render(GREEN))["runs"]
    assert run["results"] == []


def test_markdown_is_a_table_that_nobody_breaks() -> None:
    lines = markdown.render(RED).splitlines()
    assert lines[0] == "### 🔴 infopt: worse: error; inconclusive: latency"
    assert lines[2] == "`a dir/model.engine` against `ci/base line.json`, 12 s"
    rows = [line for line in lines if line.startswith("| ")]
    assert len(rows) == 2 + len(RED.findings)
    assert {row.replace("\\|", "").count("|") for row in rows} == {7}
    assert r"\<b\>\&amp;\|\`x\` \]\]\>" in rows[3]
    assert "⚪ worse, allowed" in rows[5]
    green = markdown.render(GREEN)
    assert green.startswith("### 🟢 infopt: nothing is worse than the baseline\n")
    assert "\n- another machine\n" in green
