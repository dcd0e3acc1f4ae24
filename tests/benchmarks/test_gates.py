"""The benchmark of the gate, with checks that are made up."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks import gates
from benchmarks.gates import PARTS, Outcome, Room

SAME = Outcome("same", "a call takes 0.1% longer", 4.0)
WORSE = Outcome("worse", "a call takes 10.0% longer", 3.0)
OPEN = Outcome("inconclusive", "could not be decided", 19.0)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    for name in ("whole.json", "latency.json"):
        (tmp_path / name).write_text(json.dumps({"facts": {"speed": 1}}))
    return Room(tmp_path)


def test_a_part_that_was_interrupted_goes_on(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    left = [SAME, OPEN]

    def check(engine: Path, baseline: Path, *, whole: bool) -> Outcome:
        assert (engine.name, baseline.name, whole) == ("same.engine", "latency.json", False)
        if not left:
            raise KeyboardInterrupt
        return left.pop()

    monkeypatch.setattr(gates, "check", check)
    with pytest.raises(KeyboardInterrupt):
        gates.measure(room, "quiet-aa", 3)
    assert room.found("quiet-aa") == [OPEN, SAME]
    left.append(WORSE)
    gates.measure(room, "quiet-aa", 3)
    assert room.found("quiet-aa") == [OPEN, SAME, WORSE]
    assert room.found("busy-aa") == []


def test_what_was_found_with_another_baseline_is_not_added_to(room: Room) -> None:
    room.keep("quiet-whole", [SAME])
    room.baseline(whole=True).write_text("{}")
    with pytest.raises(click.ClickException, match="is of another baseline; remove"):
        room.found("quiet-whole")


def test_the_limits() -> None:
    assert gates.missed("quiet-aa", [*[SAME] * 198, OPEN, WORSE]) == []
    assert gates.missed("quiet-aa", [*[SAME] * 197, OPEN, *[WORSE] * 2]) == [
        "quiet-aa: 3 false alarms"
    ]
    assert gates.missed("busy-slower", [*[WORSE] * 95, *[OPEN] * 5]) == []
    assert gates.missed("busy-slower", [*[WORSE] * 94, *[OPEN] * 6]) == ["busy-slower: 94 caught"]
    late = dataclasses.replace(WORSE, seconds=20.5)
    assert gates.missed("busy-slower", [late]) == ["busy-slower: 20.5 s"]


def test_the_page_counts(room: Room) -> None:
    room.keep("quiet-aa", [SAME, WORSE, OPEN, SAME])
    page = gates.page({"quiet-aa": gates.taken(room, "quiet-aa")})
    (_, header, rows) = page.tables[0]
    assert all(len(row) == len(header) for row in rows)
    counts = ["4", "1", "1", "2", "4.0 s", "14.5 s", "19.0 s"]
    assert rows[0][:-1] == [PARTS["quiet-aa"].title, *counts]
    assert "cores" in rows[0][-1]
    assert [row[-1] for row in rows[1:]] == ["not taken yet"] * (len(PARTS) - 1)


def test_a_part_that_is_whole_is_added_to_the_page(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Room, "build", lambda self, cache: None)
    monkeypatch.setattr(gates, "check", lambda engine, baseline, *, whole: SAME)
    short = dataclasses.replace(PARTS["quiet-aa"], checks=3)
    monkeypatch.setattr(gates, "PARTS", {**PARTS, "quiet-aa": short, "busy-aa": short})
    call = ["--room", str(room.path), "--output", str(room.path)]
    for part, checks in (("quiet-aa", 2), ("quiet-aa", 3), ("busy-aa", 3)):
        result = CliRunner().invoke(gates.main, [*call, "--part", part, "--checks", str(checks)])
        assert result.exit_code == 0, result.output
        assert (room.path / "gates.md").exists() is (checks == 3)
    assert set(gates.known(room.path)) == {"quiet-aa", "busy-aa"}


def test_a_neighbour_is_there_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *words: object, **options: object) -> None:
            super().__init__(*words, **options)  # type: ignore[call-overload]
            started.append(self)

    monkeypatch.setattr("subprocess.Popen", Recorded)
    with gates.neighbour(2):
        assert [process.poll() for process in started] == [None, None]
    assert all(process.poll() is not None for process in started)
