from __future__ import annotations

import pytest
import torch

from infopt.errors import DataError, UsageError
from infopt.importers import dimensions


def zeros(**shapes: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


def test_one_example_makes_the_common_first_axis_dynamic() -> None:
    assert dimensions.inferred([zeros(x=(2, 3), y=(2,), s=())]) == {
        "x": {0: "batch"},
        "y": {0: "batch"},
        "s": {},
    }


def test_one_example_with_different_first_axes_makes_nothing_dynamic() -> None:
    assert dimensions.inferred([zeros(x=(2, 3), y=(4,))]) == {"x": {}, "y": {}}


def test_two_examples_show_what_is_dynamic() -> None:
    sets = [zeros(x=(2, 3, 8), y=(8, 5)), zeros(x=(4, 3, 9), y=(9, 5))]
    assert dimensions.inferred(sets) == {"x": {0: "batch", 2: "x_2"}, "y": {0: "batch"}}


def test_dimensions_of_different_sizes_get_different_names() -> None:
    sets = [zeros(x=(2, 3, 8), y=(8, 5)), zeros(x=(4, 3, 9), y=(9, 5))]
    dims = dimensions.consistent(dimensions.inferred(sets), sets)
    assert dims == {"x": {0: "batch", 2: "x_2"}, "y": {0: "y_0"}}
    assert dimensions.sizes_of(sets, dims) == [
        {"batch": 2, "x_2": 8, "y_0": 8},
        {"batch": 4, "x_2": 9, "y_0": 9},
    ]


def test_chosen_dimensions_may_count_from_the_end() -> None:
    dims = dimensions.chosen({"x": {-1: "length"}}, zeros(x=(2, 3), y=(2,)))
    assert dims == {"x": {1: "length"}, "y": {}}


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"xs": {0: "n"}}, "names 'xs', which is no input of the module; did you mean 'x'"),
        ({"x": {2: "n"}}, "names axis 2 of 'x', which has rank 2"),
        ({"x": {0: 5}}, "must name axis 0 of 'x' with a word, not 5"),
        ({"x": {0: "2*n"}}, "with a word, not '2\\*n'"),
        ({"x": {0: "n", 1: "n"}}, "dimension 'n' is 2 and 3 in the example inputs"),
    ],
)
def test_chosen_dimensions_are_checked(wanted: dict[str, dict[int, str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dimensions.chosen(wanted, zeros(x=(2, 3)))


def test_examples_are_repeated_and_cut() -> None:
    x = torch.arange(6.0).reshape(2, 3)
    ids = torch.arange(2)
    dims = {"x": {0: "batch"}, "ids": {0: "batch"}}
    result = dimensions.resized({"x": x, "ids": ids}, dims, {"batch": 5})
    assert result["x"].shape == (5, 3)
    assert torch.equal(result["x"][:2], x)
    assert not torch.equal(result["x"][2:4], x)  # rows differ, so that mixing them shows
    assert torch.equal(result["x"][2:4].sort()[0], x)
    assert result["ids"].tolist() == [0, 1, 0, 1, 0]
    assert dimensions.resized({"x": x}, dims, {"batch": 1})["x"].tolist() == [[0, 1, 2]]
    assert dimensions.resized({"x": x}, {"x": {1: "n"}}, {"n": 7})["x"].is_contiguous()


def test_empty_examples_cannot_be_repeated() -> None:
    with pytest.raises(DataError, match="axis 0 of example input 'x' is empty"):
        dimensions.resized(zeros(x=(0, 3)), {"x": {0: "batch"}}, {"batch": 2})
