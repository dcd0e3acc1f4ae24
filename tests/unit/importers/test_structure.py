from __future__ import annotations

import dataclasses
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
import torch

from infopt.importers import structure


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor | None


@dataclasses.dataclass
class Detection:
    boxes: torch.Tensor
    scores: list[torch.Tensor]


ONE, TWO, THREE = (torch.full((n,), float(n)) for n in (1, 2, 3))


@pytest.mark.parametrize(
    ("result", "names"),
    [
        (ONE, ["output"]),
        ((ONE,), ["output"]),
        ([ONE, TWO], ["output_0", "output_1"]),
        ((ONE, None, (TWO, THREE)), ["output_0", "output_2_0", "output_2_1"]),
        ({"logits": ONE, "loss": None, "states": (TWO, THREE)}, ["logits", "states_0", "states_1"]),
        (Pair(ONE, None), ["left"]),
        (Detection(ONE, [TWO]), ["boxes", "scores_0"]),
        ({0: ONE}, ["output"]),
        ({"a_0": ONE, "a": [TWO]}, ["a_0", "a_0_"]),
        ((), []),
    ],
)
def test_outputs_are_named_after_their_places(result: object, names: list[str]) -> None:
    assert list(structure.named_outputs(result)) == names


def test_outputs_hold_tensors_only() -> None:
    with pytest.raises(TypeError, match="it returns a int as 'count'"):
        structure.named_outputs({"x": ONE, "count": 3})


def test_tensors_are_taken_out_and_put_back() -> None:
    value = ((ONE, 3, None), {"a": [TWO, "text"], "b": Pair(THREE, None)})
    template, tensors = structure.take_out(value)
    assert [t is o for t, o in zip(tensors, (ONE, TWO, THREE), strict=True)] == [True] * 3
    assert template == structure.take_out(value)[0]
    again = structure.put_back(template, tuple(tensors))
    assert isinstance(again, tuple)
    assert again[0][0] is ONE
    assert again[1]["b"].left is THREE
    assert again[1]["a"][1] == "text"


def test_arrays_are_copies() -> None:
    tensor = torch.arange(6.0, requires_grad=True).reshape(2, 3).T
    array = structure.to_numpy(tensor)
    assert array.flags.c_contiguous
    array[:] = 7
    assert tensor[0, 1] == 3


def test_bfloat16_keeps_its_type() -> None:
    array = structure.to_numpy(torch.tensor([1.5, -2.0], dtype=torch.bfloat16))
    assert array.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(array.astype(np.float32), [1.5, -2.0])
