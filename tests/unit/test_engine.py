import dataclasses
import json
import os
import subprocess
from pathlib import Path

import pytest

from infopt import engine as engines
from infopt.errors import EngineError, OutputError, StorageError
from tests.support.small_engines import MANIFEST, build_engine


def _names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_what_is_written_opens_again(tmp_path: Path) -> None:
    built = build_engine(tmp_path / "e")
    opened = engines.open_engine(tmp_path / "e")
    assert opened == built
    assert opened.manifest.inputs == MANIFEST.inputs
    assert opened.nbytes == len("model")
    assert _names(tmp_path) == ["e"]
    assert _names(tmp_path / "e") == ["manifest.json", "model.onnx"]


def test_an_engine_is_replaced_whole(tmp_path: Path) -> None:
    build_engine(tmp_path / "e", "old")
    build_engine(tmp_path / "e", "new")
    assert (tmp_path / "e" / "model.onnx").read_text() == "new"
    assert _names(tmp_path) == ["e"]


def test_a_failure_leaves_the_old_engine_and_nothing_else(tmp_path: Path) -> None:
    build_engine(tmp_path / "e", "old")

    def fail() -> None:
        with engines.staging(tmp_path / "e") as rooms:
            (rooms.payload / "model.onnx").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert engines.open_engine(tmp_path / "e").file("model.onnx").read_text() == "old"
    assert _names(tmp_path) == ["e"]


def test_missing_parents_are_made_and_an_empty_directory_is_filled(tmp_path: Path) -> None:
    build_engine(tmp_path / "a" / "b" / "e")
    (tmp_path / "empty").mkdir()
    build_engine(tmp_path / "empty")
    engines.open_engine(tmp_path / "empty")


def test_other_peoples_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "thesis.tex").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("file", "dir", "link"):
        with pytest.raises(OutputError, match="does not overwrite"):
            build_engine(tmp_path / name)
    assert (tmp_path / "dir" / "thesis.tex").read_text() == "mine"
    assert _names(tmp_path) == ["dir", "file", "link"]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    leftover = tmp_path / f".e.{dead.pid}.abc.infopt"
    (leftover / "engine").mkdir(parents=True)
    living = tmp_path / f".e.{os.getppid()}.abc.infopt"
    living.mkdir()
    other = tmp_path / f".other.{dead.pid}.abc.infopt"
    other.mkdir()
    build_engine(tmp_path / "e")
    assert not leftover.exists()
    assert living.exists()
    assert other.exists()


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="not a directory"):
        build_engine(tmp_path / "file" / "e")


@pytest.mark.parametrize("verify", [True, False])
def test_damage_is_noticed(tmp_path: Path, verify: bool) -> None:
    engine = build_engine(tmp_path / "e")
    engine.file("model.onnx").write_text("model and more")
    with pytest.raises(EngineError, match=r"model\.onnx is not the file that was built"):
        engines.open_engine(tmp_path / "e", verify=verify)
    engine.file("model.onnx").unlink()
    with pytest.raises(EngineError, match=r"model\.onnx is missing"):
        engines.open_engine(tmp_path / "e", verify=verify)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    engine = build_engine(tmp_path / "e")
    engine.file("model.onnx").write_text("modem")
    with pytest.raises(EngineError, match="is not the file that was built"):
        engines.open_engine(tmp_path / "e")


def test_weights_that_the_manifest_does_not_know_are_refused(tmp_path: Path) -> None:
    engine = build_engine(tmp_path / "e")
    engine.file("model.data").write_text("slipped in")
    with pytest.raises(EngineError, match=r"model\.data is not in its manifest"):
        engines.open_engine(tmp_path / "e")


def _edit(path: Path, **fields: object) -> None:
    document = json.loads((path / "manifest.json").read_text())
    document.update(fields)
    (path / "manifest.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"format": "zip"}, "not the manifest of an infopt engine"),
        ({"schema_version": 99}, "schema version 99, this infopt reads 1"),
        ({"files": {"../../etc/passwd": {"bytes": 1, "sha256": ""}}}, "no plain file"),
        ({"files": {"/etc/passwd": {"bytes": 1, "sha256": ""}}}, "no plain file"),
        ({"files": {"model.onnx": {}}}, "malformed"),
        ({"files": []}, "malformed"),
        ({"inputs": [{}]}, "malformed"),
        ({"inputs": 3}, "malformed"),
        ({"target": 7}, "malformed"),
    ],
)
def test_hostile_manifests_are_refused(
    tmp_path: Path, fields: dict[str, object], message: str
) -> None:
    build_engine(tmp_path / "e")
    _edit(tmp_path / "e", **fields)
    with pytest.raises(EngineError, match=message):
        engines.open_engine(tmp_path / "e")


def test_a_payload_that_is_a_link_is_refused(tmp_path: Path) -> None:
    engine = build_engine(tmp_path / "e")
    engine.file("model.onnx").rename(tmp_path / "elsewhere")
    engine.file("model.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EngineError, match="no plain file"):
        engines.open_engine(tmp_path / "e")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '"' * 5, "null"])
def test_manifests_that_are_no_json(tmp_path: Path, text: str) -> None:
    build_engine(tmp_path / "e")
    (tmp_path / "e" / "manifest.json").write_text(text)
    with pytest.raises(EngineError):
        engines.open_engine(tmp_path / "e")


def test_what_is_no_engine_is_named(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no engine directory"):
        engines.open_engine(tmp_path / "absent")
    with pytest.raises(EngineError, match="has no manifest"):
        engines.open_engine(tmp_path)


def test_every_field_of_a_manifest_survives_the_way_through_json(tmp_path: Path) -> None:
    engine = build_engine(tmp_path / "e")
    assert dataclasses.asdict(engines.open_engine(tmp_path / "e").manifest) == dataclasses.asdict(
        engine.manifest
    )


def test_an_engine_of_before_fusions_were_recorded_opens(tmp_path: Path) -> None:
    build_engine(tmp_path / "e")
    path = tmp_path / "e" / "manifest.json"
    document = json.loads(path.read_text())
    del document["fusions"], document["seal"]
    path.write_text(json.dumps(document))
    assert engines.open_engine(tmp_path / "e").manifest.fusions == {}
    damage: list[object] = [{"Gelu": {"found": 1}}, {"Gelu": 1}, []]
    for damaged in damage:
        path.write_text(json.dumps({**document, "fusions": damaged}))
        with pytest.raises(EngineError, match="malformed"):
            engines.open_engine(tmp_path / "e")


@pytest.mark.parametrize(
    "fields",
    [{"precision": "int8"}, {"evidence": {"speed": "ten times"}}, {"target": "tensorrt"}, {"x": 1}],
)
def test_a_manifest_edited_by_hand_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    build_engine(tmp_path / "e")
    _edit(tmp_path / "e", **fields)
    with pytest.raises(EngineError, match="it was edited, or its seal was taken off"):
        engines.open_engine(tmp_path / "e")


def test_the_layout_of_a_manifest_is_nobodys_business(tmp_path: Path) -> None:
    engine = build_engine(tmp_path / "e")
    _edit(tmp_path / "e")  # the same on one line
    assert engines.open_engine(tmp_path / "e") == engine


@pytest.mark.parametrize("seal", [None, "", "sha256:0", 7])
def test_native_code_without_a_seal_is_refused(tmp_path: Path, seal: object) -> None:
    build_engine(tmp_path / "e", plan=b"native")
    _edit(tmp_path / "e", seal=seal)
    with pytest.raises(EngineError, match="its seal was taken off"):
        engines.open_engine(tmp_path / "e")


def test_native_code_is_compared_in_any_case(tmp_path: Path) -> None:
    engine = build_engine(tmp_path / "e", plan=b"native")
    engine.file("engine.plan").write_bytes(b"natiwe")
    with pytest.raises(EngineError, match=r"engine\.plan is not the file that was built"):
        engines.open_engine(tmp_path / "e", verify=False)


def test_native_code_that_the_manifest_does_not_know_is_refused(tmp_path: Path) -> None:
    engine = build_engine(tmp_path / "e")
    engine.file("engine.plan").write_bytes(b"slipped in")
    with pytest.raises(EngineError, match=r"engine\.plan is not in its manifest"):
        engines.open_engine(tmp_path / "e")
