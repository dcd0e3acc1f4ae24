import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.sidebyside import job as files
from benchmarks.sidebyside import judge


def _sample(*values: float) -> list[np.ndarray]:
    return [np.array([values], np.float32)]


def test_the_error_is_that_of_all_samples_together() -> None:
    reference = [_sample(3.0, 0.0), _sample(0.0, 4.0)]
    assert judge.error(reference, reference) == 0.0
    computed = [_sample(3.0, 0.3), _sample(0.4, 4.0)]
    assert judge.error(computed, reference) == pytest.approx(0.1)


def test_the_worst_output_counts() -> None:
    reference = [_sample(1.0) + _sample(100.0)]
    assert judge.error([_sample(1.5) + _sample(100.0)], reference) == pytest.approx(0.5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_has_no_error(value: float) -> None:
    with pytest.raises(judge.WrongOutputs, match="no number"):
        judge.error([_sample(value)], [_sample(1.0)])


def test_zeros_that_are_kept_are_right() -> None:
    assert judge.error([_sample(0.0)], [_sample(0.0)]) == 0.0
    with pytest.raises(judge.WrongOutputs, match="not zero"):
        judge.error([_sample(0.1)], [_sample(0.0)])


def test_other_shapes_are_refused() -> None:
    with pytest.raises(judge.WrongOutputs, match=r"\[\(1, 2\)\], not \[\(1, 1\)\]"):
        judge.error([_sample(1.0, 2.0)], [_sample(1.0)])
    with pytest.raises(judge.WrongOutputs):
        judge.check(_sample(1.0) + _sample(1.0), _sample(1.0))


def test_top1_is_the_share_of_equal_classes() -> None:
    reference = [[np.eye(3, dtype=np.float32)], _sample(0.1, 0.2, 0.9)]
    other = [[np.eye(3, dtype=np.float32)[[0, 2, 2]]], _sample(0.1, 0.2, 0.9)]
    assert judge.top1(reference, reference) == 1.0
    assert judge.top1(other, reference) == 0.75


def test_embeddings_are_means_over_the_sequence() -> None:
    states = np.array([[[2.0, 0.0], [0.0, 2.0]]])
    turned = np.array([[[1.0, 0.0], [1.0, 0.0]]])
    assert judge.embedding([[states]], [[states * 3]]) == pytest.approx(1.0)
    assert judge.embedding([[turned]], [[states]]) == pytest.approx(math.sqrt(0.5))


def test_outputs_come_in_the_order_of_the_samples(tmp_path: Path) -> None:
    for number in (1, 0, 2):
        files.write(tmp_path / f"{number:04}.npz", {"output0": np.full(2, number)})
    assert [int(output[0]) for (output,) in judge.outputs(tmp_path)] == [0, 1, 2]
