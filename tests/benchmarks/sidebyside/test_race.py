"""A race of the peers that the tests' own environment has, on a model of one product."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.sidebyside import findings, run
from benchmarks.sidebyside.client import PeerFailed
from benchmarks.sidebyside.environments import Environment
from benchmarks.sidebyside.job import Feeds
from benchmarks.sidebyside.page import page
from benchmarks.sidebyside.peers import BASELINE, PEERS, Peer
from benchmarks.sidebyside.run import AGAIN, NO_TIME, Race
from benchmarks.sidebyside.schedule import Budget
from benchmarks.sidebyside.workplace import Cell, Workplace
from benchmarks.subjects import Subject
from tests.benchmarks.sidebyside.results import TAKEN

WIDTH = 64
CELLS = (Cell(1, WIDTH), Cell(8, WIDTH))
OWN = Environment("", Path(sys.executable), 0.0)


def _feeds(batch: int, size: int, seed: int) -> Feeds:
    return {"x": np.random.default_rng(seed).normal(0, 1, (batch, size)).astype(np.float32)}


def _product(cache: Path) -> Path:
    weight = np.random.default_rng(0).normal(0, 1, (WIDTH, WIDTH)).astype(np.float32)
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", WIDTH]) for n in ("x", "y")
    ]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node], "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")]
    )
    file = cache / "product.onnx"
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), file)
    return file


SUBJECT = Subject("Product", _product, _feeds, (WIDTH,), "columns", metric="top-1")


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    gone = Environment("openvino", Path("nowhere"), 0.0, "ERROR: no such version")
    known = {"": OWN, "onnxruntime": OWN, "openvino": gone}
    return Workplace(SUBJECT, CELLS, tmp_path / "work", tmp_path, known, 1)


def _peers(*names: str) -> list[Peer]:
    return [peer for peer in PEERS if peer.name in names]


def _race(place: Workplace, *names: str) -> tuple[Race, list[str]]:
    said: list[str] = []
    peers = _peers(BASELINE.name, *names)
    return Race(place, peers, patience=60, say=said.append), said


@pytest.mark.slow
def test_all_figures_of_a_model(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LEAST_FREE", 2.0)  # no memory ever: every worker is its own group
    monkeypatch.setattr(run, "AT_ONCE", 1)
    race, said = _race(place, "infopt", "ORT static int8", "OpenVINO")
    race.optimize(Budget(5))
    race.run(Budget(5), 0.5)
    found = race.as_dict()
    peers = found["peers"]
    assert peers["OpenVINO"]["failed"] == {"": "no environment: ERROR: no such version"}
    assert peers["OpenVINO"]["cells"] == {}
    for name in ("ORT default", "infopt", "ORT static int8"):
        one = peers[name]
        assert not one["failed"]
        assert set(one["cells"]) == {"1x64", "8x64"}
        assert all(cell["speed"]["low"] > 0 for cell in one["cells"].values())
        assert one["run_peak_rss"] > 10_000_000
        assert one["bytes"] > 4_000
    assert peers["infopt"]["error"] < 1e-6
    assert 1e-4 < peers["ORT static int8"]["error"] < 0.1
    assert peers["ORT static int8"]["metric"] > 0.5
    assert peers["infopt"]["optimize_peak_rss"] > 10_000_000
    assert peers["ORT default"]["cells"]["1x64"]["samples"] > 3  # it is in both groups
    assert sum("3 workers" in line for line in said) == 2 * 2 * run.ROUNDS
    for name in ("infopt", "ORT static int8"):
        passes = peers[name]["cells"]["8x64"]["passes"]
        assert len(passes) == run.ROUNDS
        assert min(map(len, passes)) >= 3
    results = {"threads": 1, "peers": list(peers), "models": [{**found, **TAKEN}]}
    assert len(findings.rows(results)) == 2
    captions = [caption for caption, _, _ in page(results).tables]
    assert any(caption.startswith("Product, 0.0 MB, kept: top-1; 2026-") for caption in captions)


@pytest.mark.slow
def test_who_does_not_load_has_its_error_and_the_others_go_on(place: Workplace) -> None:
    race, _ = _race(place, "infopt")
    race.optimize(Budget(5))
    (place.of(_peers("infopt")[0]) / "made" / "engine" / "manifest.json").unlink()
    race.run(Budget(5), 0.1)
    found = race.as_dict()["peers"]
    assert "manifest.json" in found["infopt"]["failed"][""]
    assert set(found["ORT default"]["cells"]) == {"1x64", "8x64"}


def test_without_time_nothing_is_optimized_but_what_all_need(place: Workplace) -> None:
    race, _ = _race(place, "infopt")
    race.optimize(Budget(0))
    assert race.outcomes["infopt"].failed == {"": NO_TIME}
    assert not race.outcomes["ORT default"].failed


@pytest.mark.slow
def test_several_at_once_and_the_first_cell_whatever_time_is_left(place: Workplace) -> None:
    race, said = _race(place, "infopt", "infopt int8-dynamic", "ORT static int8")
    race.optimize(Budget(5))
    race.run(Budget(0), 0.1)
    found = race.as_dict()["peers"]
    for name in ("ORT default", "infopt", "infopt int8-dynamic", "ORT static int8"):
        assert set(found[name]["cells"]) == {"1x64"}
        assert found[name]["failed"] == {"8x64": NO_TIME}
        assert found[name]["cells"]["1x64"]["samples"] >= 3
    assert sum(line.startswith("  1x64: 5 workers") for line in said) == 1  # of one round
    assert {len(peer["cells"]["1x64"]["passes"]) for peer in found.values()} == {1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("minutes", "asked"), [(10.0, [1.0] * 4), (1.5, [1.0, 1.0, 3.0]), (0.7, [1.0, 3.0])]
)
def test_what_is_too_short_for_another_round_goes_to_the_last(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, minutes: float, asked: list[float]
) -> None:
    race, _ = _race(place)
    race.optimize(Budget(5))
    now = 0.0
    found: list[float] = []

    def spend(group: object, number: int, budget: Budget, seconds: float) -> None:
        nonlocal now
        found.append(seconds)
        now += 40.0

    monkeypatch.setattr(race, "_time", spend)
    race.run(Budget(minutes, lambda: now), 4.0)
    assert found == asked


@pytest.mark.slow
def test_who_does_not_load_again_keeps_its_figures(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    race, said = _race(place, "infopt")
    race.optimize(Budget(5))
    time = race._time
    engine = place.of(_peers("infopt")[0]) / "made" / "engine"

    def and_break(*given: Any) -> None:
        time(*given)
        (engine / "manifest.json").unlink(missing_ok=True)

    monkeypatch.setattr(race, "_time", and_break)
    race.run(Budget(5), 0.1)
    found = race.as_dict()["peers"]["infopt"]
    assert not found["failed"]
    assert [bool(series) for series in found["cells"]["1x64"]["passes"]] == [True] + 3 * [False]
    assert sum("manifest.json" in line for line in said) == run.ROUNDS - 1


def test_who_takes_long_comes_last(place: Workplace) -> None:
    race, _ = _race(place, "torch.compile", "Olive", "OpenVINO NNCF int8", "infopt")
    names = [peer.name for peer in race._in_turn()]
    first = ["infopt", "ORT default", "Olive"]
    # It refuses a model that is a file, which takes no time.
    assert names == [*first, "torch.compile", "OpenVINO NNCF int8"]
    place.subject = dataclasses.replace(SUBJECT, module=object)
    assert [peer.name for peer in race._in_turn()] == [
        *first,
        "OpenVINO NNCF int8",
        "torch.compile",
    ]


def test_what_needs_more_time_than_there_is_is_not_begun(place: Workplace) -> None:
    race, said = _race(place, "infopt", "OpenVINO NNCF int8")
    race.optimize(Budget(0.4))
    assert race.outcomes["OpenVINO NNCF int8"].failed == {"": NO_TIME}
    assert not race.outcomes["infopt"].failed
    assert f"  OpenVINO NNCF int8: {NO_TIME}" in said


def test_without_a_reference_there_is_no_race(place: Workplace) -> None:
    place.model.unlink()
    race, _ = _race(place)
    with pytest.raises(PeerFailed, match="no reference: FileNotFoundError"):
        race.optimize(Budget(1))


def test_the_baseline_runs_twice_and_counts_once() -> None:
    assert AGAIN not in PEERS
    assert AGAIN.recipe == BASELINE.recipe


def test_inputs_lie_in_files_and_go_with_the_workplace(place: Workplace) -> None:
    assert len(list((place.directory / "calibration").iterdir())) == len(SUBJECT.samples())
    assert len(place.unseen()) == len(SUBJECT.unseen())
    assert (place.directory / "huggingface" / "model.onnx").resolve() == place.model
    assert not (place.directory / "huggingface" / "config.json").exists()
    place.remove()
    assert place.model.exists()
    assert not place.directory.exists()
