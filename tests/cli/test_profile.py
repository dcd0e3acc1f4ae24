from __future__ import annotations

import json
from pathlib import Path

from tests.cli.support import Run, document, no_leftovers


def test_for_people(infopt: Run, engine: Path) -> None:
    result = infopt("profile", engine, "--seconds", "0.1", "--shape", "x=3x8")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("Where the time goes")
    assert "dense1" in result.stdout
    assert "x=3×8; medians of" in result.stdout
    assert "3×16" in result.stdout


def test_all_lists_every_node(infopt: Run, model: Path) -> None:
    result = infopt("profile", model, "--seconds", "0.1", "--all")
    assert result.exit_code == 0, result.stderr
    assert "more" not in result.stdout


def test_json(infopt: Run, engine: Path) -> None:
    found = document(infopt("profile", engine, "--seconds", "0.1", "--json"))
    assert found["subject"] == str(engine)
    assert abs(sum(node["share"] for node in found["nodes"]) - 1) < 1e-9
    assert {row["operator"] for row in found["operators"]} == {
        node["operator"] for node in found["nodes"]
    }
    assert "timeline" not in found
    assert found["versions"]["onnxruntime"]


def test_a_trace_is_written_whole(infopt: Run, engine: Path, tmp_path: Path) -> None:
    place = tmp_path / "traces"
    place.mkdir()
    file = place / "trace.json"
    result = infopt("profile", engine, "--seconds", "0.1", "--trace", file)
    assert result.exit_code == 0, result.stderr
    assert "ui.perfetto.dev" in result.stdout
    events = json.loads(file.read_text())["traceEvents"]
    kernels = [event for event in events if event["ph"] == "X" and event["cat"] != "call"]
    assert {event["args"]["provider"] for event in kernels} == {"CPUExecutionProvider"}
    no_leftovers(place, "trace.json")


def test_a_place_where_no_trace_can_be(infopt: Run, engine: Path, tmp_path: Path) -> None:
    result = infopt("profile", engine, "--trace", tmp_path)
    assert result.exit_code == 2
    assert "is a directory; name a file" in result.stderr
    result = infopt("profile", engine, "--trace", tmp_path / "nowhere" / "trace.json")
    assert result.exit_code == 3
    assert "there is no directory" in result.stderr


def test_a_damaged_engine(infopt: Run, engine: Path) -> None:
    (engine / "model.onnx").write_bytes(b"")
    result = infopt("profile", engine)
    assert result.exit_code == 3
    assert "damaged" in result.stderr
