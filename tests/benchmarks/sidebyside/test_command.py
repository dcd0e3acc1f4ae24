import dataclasses
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.sidebyside import __main__ as command
from benchmarks.sidebyside import environments
from benchmarks.sidebyside.__main__ import cells, chosen_peers, chosen_subjects, main
from benchmarks.sidebyside.peers import BASELINE, PEERS
from benchmarks.sidebyside.run import NO_TIME
from benchmarks.sidebyside.workplace import Cell
from benchmarks.subjects import SUBJECTS, find
from tests.benchmarks.sidebyside.results import model, peer, results


def test_all_peers_and_models_by_default() -> None:
    assert chosen_peers(()) == list(PEERS)
    assert chosen_subjects(()) == list(SUBJECTS)


def test_the_baseline_and_infopt_are_always_there() -> None:
    found = [peer.name for peer in chosen_peers(["olive"])]
    ours = [peer.name for peer in PEERS if peer.ours]
    assert sorted(found) == sorted([BASELINE.name, *ours, "Olive", "Olive int8"])


def test_a_quick_one_has_peers_of_each_kind() -> None:
    names = {peer.name for peer in PEERS}
    assert names.issuperset(command.QUICK_PEERS)
    kinds = {peer.runtime for peer in PEERS if peer.name in command.QUICK_PEERS}
    assert kinds == {"ONNX Runtime", "OpenVINO"}


def test_models_are_found_by_part_of_their_name() -> None:
    assert [subject.name for subject in chosen_subjects(["ocr", "bert"])] == [
        "BERT-base",
        "PP-OCRv4 detection",
        "PP-OCR direction",
    ]


def test_small_cells_come_first() -> None:
    assert cells(find("BERT-base"), (8, 1), 2) == [
        Cell(1, 128),
        Cell(8, 128),
        Cell(1, 32),
        Cell(8, 32),
    ]
    assert cells(find("ViT-base"), (1,), 2) == [Cell(1, 224)]


def test_a_model_that_there_is_not_is_wrong_usage() -> None:
    found = CliRunner().invoke(main, ["--models", "no such"])
    assert found.exit_code == 2
    assert "no model has such a name" in found.output
    found = CliRunner().invoke(main, ["--peers", "no such"])
    assert found.exit_code == 2
    assert "no peer is called 'no such'" in found.output


def test_a_model_that_cannot_be_had_costs_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def gone(cache: Path) -> Path:
        raise OSError("[/no] such file")

    subjects = [dataclasses.replace(find("MiniLM-L6"), name=name, file=gone) for name in "AB"]
    monkeypatch.setattr(command, "SUBJECTS", subjects)
    monkeypatch.setattr(command, "WORK", tmp_path / "work")
    (tmp_path / "work").mkdir()
    monkeypatch.setattr(environments, "make", lambda names, root: {})
    found = CliRunner().invoke(main, ["--output", str(tmp_path)])
    assert found.exit_code == 0, found.output
    page = (tmp_path / "sidebyside.md").read_text()
    assert page.count("OSError: [/no] such file") == 2
    assert "Nothing was timed." in page
    assert "OSError: [/no] such file" in found.output


def test_rows_of_other_models_stay_on_the_page(tmp_path: Path) -> None:
    before = results(
        model("MiniLM-L6", ORT_default=peer(a=1.0)), model("BERT-base", ORT_default=peer(a=2.0))
    )
    command.publish(before, tmp_path)
    again = [
        model("MiniLM-L6", ORT_default=peer(a=3.0)),
        {"model": "BERT-base", "failed": NO_TIME},
        {"model": "ViT-base", "failed": NO_TIME},
    ]
    found = command.joined(again, command.known(tmp_path, 2))
    assert [one["model"] for one in found] == ["BERT-base", "ViT-base", "MiniLM-L6"]
    assert found[0] == before["models"][1]
    assert found[2] == again[0]
    assert command.known(tmp_path, 4) == []
    assert command.known(tmp_path / "none", 2) == []


def test_a_page_has_its_plots(tmp_path: Path) -> None:
    found = results(model("MiniLM", ORT_default=peer(a=1.0, b=1.0), infopt=peer(a=1.5, b=1.2)))
    command.publish(found, tmp_path)
    assert {"sidebyside-1.svg", "sidebyside-8.svg"} <= {path.name for path in tmp_path.iterdir()}
    page, drawn = (tmp_path / name for name in ("sidebyside.md", "sidebyside-1.svg"))
    assert "(sidebyside-8.svg)" in page.read_text()
    assert all(word in drawn.read_text() for word in ("ORT default", "infopt", "MiniLM"))


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_inputs_have_the_batch_and_depend_on_the_seed(subject: object) -> None:
    one = next(s for s in SUBJECTS if s is subject)
    feeds = one.feeds(3, one.sizes[0], 0)
    again, other = one.feeds(3, one.sizes[0], 0), one.feeds(3, one.sizes[0], 1)
    name = next(iter(feeds))
    assert feeds[name].shape[0] == 3
    assert (feeds[name] == again[name]).all()
    assert (feeds[name] != other[name]).any()
