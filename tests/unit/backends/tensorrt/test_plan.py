import json
from pathlib import Path
from typing import Any

import pytest

from infopt.backends.tensorrt import plan
from infopt.errors import EngineError
from infopt.target import TARGETS

RTX = TARGETS["tensorrt-rtx"]
FACTS = {
    "runtime": "tensorrt-rtx",
    "version": "1.7.1",
    "capabilities": ["sm86", "sm89"],
    "options": {"version_compatible": False},
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "engine.plan").write_bytes(b"native code")
    plan.write_facts(tmp_path, FACTS)
    return tmp_path


def test_what_is_written_is_read(directory: Path) -> None:
    facts = plan.read_facts(directory)
    assert facts["plan"]["bytes"] == 11
    assert {name: facts[name] for name in FACTS} == FACTS
    assert plan.read_plan(directory, facts) == b"native code"


def test_another_plan_is_refused(directory: Path) -> None:
    facts = plan.read_facts(directory)
    (directory / "engine.plan").write_bytes(b"native kode")
    with pytest.raises(EngineError, match="is not the plan that was built"):
        plan.read_plan(directory, facts)
    (directory / "engine.plan").unlink()
    with pytest.raises(EngineError, match="cannot be read"):
        plan.read_plan(directory, facts)


@pytest.mark.parametrize(
    "changes",
    [{"version": 1}, {"runtime": None}, {"capabilities": [7]}, {"capabilities": 7}, {"plan": {}}],
)
def test_malformed_facts_are_refused(directory: Path, changes: dict[str, Any]) -> None:
    file = directory / "engine.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    with pytest.raises(EngineError, match="malformed"):
        plan.read_facts(directory)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "null", "3"])
def test_facts_that_are_no_json(directory: Path, text: str) -> None:
    (directory / "engine.json").write_text(text)
    with pytest.raises(EngineError, match="malformed"):
        plan.read_facts(directory)


def test_facts_of_hostile_size_and_none_at_all(directory: Path) -> None:
    (directory / "engine.json").write_text(" " * (2 << 20))
    with pytest.raises(EngineError, match="larger than any"):
        plan.read_facts(directory)
    (directory / "engine.json").unlink()
    with pytest.raises(EngineError, match="cannot be read"):
        plan.read_facts(directory)


def test_another_version_is_refused() -> None:
    plan.check_version(FACTS, RTX, "1.7.1")
    for installed in ("1.7.2", "1.6.0"):
        with pytest.raises(
            EngineError, match=rf"built with tensorrt-rtx 1\.7\.1, here .*{installed}"
        ):
            plan.check_version(FACTS, RTX, installed)
    with pytest.raises(EngineError, match="here is tensorrt 1"):
        plan.check_version(FACTS, TARGETS["tensorrt"], "1.7.1")


def test_a_compatible_plan_runs_on_later_versions_only() -> None:
    facts = {**FACTS, "options": {"version_compatible": True}}
    plan.check_version(facts, RTX, "1.10.0")
    with pytest.raises(EngineError, match="does not run it"):
        plan.check_version(facts, RTX, "1.6.9")


def test_another_gpu_is_refused() -> None:
    plan.check_capability(FACTS, "sm89")
    plan.check_capability({**FACTS, "capabilities": []}, "sm120")
    with pytest.raises(EngineError, match="built for sm86, sm89, the GPU here is sm90"):
        plan.check_capability(FACTS, "sm90")
