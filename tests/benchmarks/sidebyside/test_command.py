import pytest
from click.testing import CliRunner

from benchmarks.sidebyside.__main__ import cells, chosen_peers, chosen_subjects, main
from benchmarks.sidebyside.peers import BASELINE, PEERS
from benchmarks.sidebyside.workplace import Cell
from benchmarks.subjects import SUBJECTS, find


def test_all_peers_and_models_by_default() -> None:
    assert chosen_peers(()) == list(PEERS)
    assert chosen_subjects(()) == list(SUBJECTS)


def test_the_baseline_is_always_there() -> None:
    assert [peer.name for peer in chosen_peers(["olive"])] == [BASELINE.name, "Olive", "Olive int8"]


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
        Cell(1, 512),
        Cell(8, 512),
    ]
    assert cells(find("ViT-base"), (1,), 2) == [Cell(1, 224)]


def test_a_model_that_there_is_not_is_wrong_usage() -> None:
    found = CliRunner().invoke(main, ["--models", "no such"])
    assert found.exit_code == 2
    assert "no model has such a name" in found.output


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_inputs_have_the_batch_and_depend_on_the_seed(subject: object) -> None:
    one = next(s for s in SUBJECTS if s is subject)
    feeds = one.feeds(3, one.sizes[0], 0)
    again, other = one.feeds(3, one.sizes[0], 0), one.feeds(3, one.sizes[0], 1)
    name = next(iter(feeds))
    assert feeds[name].shape[0] == 3
    assert (feeds[name] == again[name]).all()
    assert (feeds[name] != other[name]).any()
