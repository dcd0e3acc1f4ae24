"""``infopt baseline`` and ``infopt check``."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from tests.cli.support import Run, document
from tests.support.schemas import validate_junit

# The perceptron runs for microseconds: whether it is as fast as before is not asked here.
QUICK = ("--seconds", "2", "--allow", "latency")


@pytest.fixture
def baseline(infopt: Run, engine: Path) -> Path:
    """A baseline of :func:`engine`, beside it."""
    path = engine.with_name("baseline.json")
    words = ("-o", path, "--seconds", "1", "--no-cold-start", "-q")
    result = infopt("baseline", engine, *words)
    assert (result.exit_code, result.stdout) == (0, ""), result.stderr
    return path


def test_a_baseline_as_people_and_programs_read_it(infopt: Run, engine: Path) -> None:
    path = engine.with_name("b.json")
    words = ("-o", path, "--seconds", "1", "--no-cold-start")
    result = infopt("baseline", engine, *words, columns=200)
    assert result.exit_code == 0, result.stderr
    for word in ("baseline", "engine", "reference  perceptron.onnx", "operators"):
        assert word in result.stdout
    taken = document(infopt("baseline", engine, *words, "--json"))
    assert taken == json.loads(path.read_text())
    assert taken["reference"]["place"] == "perceptron.onnx"


def test_green(infopt: Run, engine: Path, baseline: Path) -> None:
    result = infopt("check", engine, "--baseline", baseline, *QUICK, columns=300)
    assert result.exit_code == 0, result.stdout
    lines = result.stdout.splitlines()
    assert lines[0] == "Gate  nothing is worse than the baseline"
    assert any(line.startswith("  interface  same") for line in lines)
    result = infopt("check", engine, "--baseline", baseline, *QUICK, "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_red_with_every_report(infopt: Run, model: Path, baseline: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"gate.{name}" for name in ("junit", "sarif", "markdown", "report")}
    words = [word for name, file in files.items() for word in (f"--{name}", file)]
    for _ in range(2):
        result = infopt("check", model, "--baseline", baseline, *QUICK, *words, "--json")
        assert result.exit_code == 1
    found = document(result)
    assert (found["holds"], found["verdict"]) == (False, "worse")
    worse = {it["name"] for it in found["findings"] if it["verdict"] == "worse"}
    assert "operators" in worse
    page = html.unescape(re.sub("<[^>]*>", "", files["report"].read_text()))
    assert "✗ failed" in page
    assert all(it["sentence"] in page for it in found["findings"])
    (suite,) = validate_junit(files["junit"].read_text())
    assert int(suite.attrib["failures"]) == len(worse - {"latency"})
    assert json.loads(files["sarif"].read_text())["runs"][0]["results"]
    # A summary is shared by all steps of a job, and so is added to.
    assert files["markdown"].read_text().count("### 🔴 infopt: worse: operators") == 2


def test_what_is_inconclusive_fails_unless_it_may_pass(
    infopt: Run, engine: Path, baseline: Path
) -> None:
    taken = json.loads(baseline.read_text())
    taken["facts"]["speed"] = None
    taken["facts"]["unknown"]["latency"] = "no time"
    baseline.write_text(json.dumps(taken))
    words = ("check", engine, "--baseline", baseline, "--seconds", "1")
    result = infopt(*words)
    assert result.exit_code == 1
    assert result.stdout.startswith("Gate  inconclusive: latency")
    assert infopt(*words, "--inconclusive", "pass").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--max-slowdown", "fast"), 2, "'fast' is no limit; write a share, 5% or 0.05"),
        (("--allow", "speed"), 2, "there is no finding 'speed' to allow"),
        (("--max-drop", "1"), 2, "give both --max-drop and --metric"),
        (("--max-error", "x"), 2, "the error 'x' is no bound"),
        (("--junit", "nowhere/at/all.xml"), 2, "there is no folder nowhere/at"),
        (("--reference", "none.onnx"), 3, "none.onnx"),
    ],
)
def test_wrong_words(
    infopt: Run, engine: Path, baseline: Path, words: tuple[str, ...], code: int, says: str
) -> None:
    result = infopt("check", engine, "--baseline", baseline, *words)
    assert result.exit_code == code, result.stderr
    assert says in " ".join(result.stderr.split())


def test_a_baseline_that_was_edited(infopt: Run, engine: Path, baseline: Path) -> None:
    taken = json.loads(baseline.read_text())
    taken["facts"]["size"] = "small"
    baseline.write_text(json.dumps(taken))
    result = infopt("check", engine, "--baseline", baseline)
    assert result.exit_code == 3
    assert "facts.size must be a whole number, not 'small'" in " ".join(result.stderr.split())
