from __future__ import annotations

import onnx_ir as ir
import pytest

from infopt.backends.tensorrt.profiles import Range, profile, profile_for
from infopt.errors import DataError
from infopt.evidence.extents import Extent


def test_a_range_for_each_dynamic_input() -> None:
    inputs = [
        ir.val("x", ir.DataType.FLOAT, ["n", 3, None]),
        ir.val("m", ir.DataType.FLOAT, ["n"]),
        ir.val("fixed", ir.DataType.FLOAT, [4]),
    ]
    found = profile(inputs, {"n": Extent(1, 8, 4), ("x", 2): Extent(32, 64, 48)})
    assert found == {
        "x": Range(least=(1, 3, 32), usual=(4, 3, 48), most=(8, 3, 64)),
        "m": Range(least=(1,), usual=(4,), most=(8,)),
    }


ONE = {"x": Range((1, 1), (1, 128), (1, 512)), "m": Range((1, 1), (1, 128), (1, 512))}
MANY = {"x": Range((1, 64), (16, 128), (32, 128)), "m": Range((1, 64), (16, 128), (32, 512))}
SMALL = {"x": Range((1, 1), (2, 16), (4, 64)), "m": Range((1, 1), (2, 16), (4, 64))}
PROFILES = (ONE, MANY, SMALL)


def _shapes(*x: int, fixed: tuple[int, ...] = (4,)) -> dict[str, tuple[int, ...]]:
    return {"x": x, "m": x, "fixed": fixed}


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 128), 0),  # the usual one
        ((1, 500), 0),  # only there
        ((32, 128), 1),
        ((16, 64), 1),
        ((2, 8), 2),
        ((1, 16), 2),  # half of the usual batch is nearer than an eighth of the usual length
        ((2, 64), 2),
        ((1, 64), 0),  # a factor of 2 from the first, 32 from the second, 8 from the third
    ],
)
def test_the_nearest_profile_that_holds_the_shapes(shape: tuple[int, int], expected: int) -> None:
    assert profile_for(PROFILES, _shapes(*shape)) == expected


def test_of_equally_near_ones_the_first() -> None:
    assert profile_for([SMALL, dict(SMALL), ONE], _shapes(2, 16)) == 0


def test_every_input_has_to_fit() -> None:
    assert profile_for(PROFILES, {"x": (8, 128), "m": (8, 512)}) == 1
    with pytest.raises(
        DataError, match=r"no profile .* together: x \[1, 512\], m \[8, 512\]; .* or x"
    ):
        profile_for(PROFILES, {"x": (1, 512), "m": (8, 512)})


@pytest.mark.parametrize("shape", [(33, 128), (2, 129), (0, 1), (1,), (1, 1, 1)])
def test_what_fits_no_profile_is_named(shape: tuple[int, ...]) -> None:
    message = (
        r"input 'x' has shape .* built for \[1, 1\] to \[1, 512\] or \[1, 64\] to .* or \[1, 1\]"
    )
    with pytest.raises(DataError, match=message):
        profile_for(PROFILES, _shapes(*shape))


def test_of_a_single_profile_the_message_is_short() -> None:
    with pytest.raises(DataError, match=r"built for \[1, 1\] to \[1, 512\]$"):
        profile_for([ONE], _shapes(2, 1))


def test_a_model_of_fixed_sizes_has_one_profile_that_says_nothing() -> None:
    assert profile_for([{}], {"fixed": (4,)}) == 0
