from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import onnx
import pytest

import infopt
from infopt import gating
from tests.cli.support import perceptron

TEST = """
    def test_gate(infopt_check):
        found = infopt_check("model.engine", seconds=1, allow=("latency",))
        assert found.holds
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A directory with an engine, its baseline and a test, as users have it."""
    onnx.save(perceptron(), "model.onnx")
    infopt.optimize("model.onnx", "model.engine", measure=False)
    gating.take_baseline("model.engine", "baseline.json", cold_starts=False, seconds=0.5)
    pytester.makepyfile(TEST)
    source = Path(infopt.__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", str(source))
    return pytester


def run(suite: pytest.Pytester, *words: str) -> pytest.RunResult:
    """In a process of its own, as an installed infopt is found, or by name where it is not."""
    installed = any(entry.name == "infopt" for entry in entry_points(group="pytest11"))
    plugin = () if installed else ("-p", "infopt.pytest_plugin")
    return suite.runpytest_subprocess(*plugin, *words)


@pytest.mark.slow
def test_green_red_and_without_a_baseline(suite: pytest.Pytester) -> None:
    run(suite, "--infopt-baseline=baseline.json").assert_outcomes(passed=1)
    suite.makeini("[pytest]\ninfopt_baseline = baseline.json\n")
    run(suite).assert_outcomes(passed=1)

    taken = json.loads(Path("baseline.json").read_text())
    taken["facts"]["size"] = 10
    Path("worse.json").write_text(json.dumps(taken))
    result = run(suite, "--infopt-baseline=worse.json")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["model.engine against worse.json", "size: * on disk, 10 B in *"])

    suite.makeini("[pytest]\n")
    result = run(suite)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no baseline: name one with --infopt-baseline FILE"])


def test_the_entry_point_is_declared() -> None:
    import tomllib

    file = Path(__file__).parents[2] / "pyproject.toml"
    entry = tomllib.loads(file.read_text())["project"]["entry-points"]["pytest11"]
    assert entry == {"infopt": "infopt.pytest_plugin"}
