import numpy as np
import onnx_ir as ir
import pytest

from infopt.errors import UsageError
from infopt.evidence.equivalence import Sample
from infopt.evidence.extents import Extent, find_extents, find_profiles

INPUTS = [
    ir.val("x", ir.DataType.FLOAT, ["n", 3, None]),
    ir.val("m", ir.DataType.FLOAT, ["n", "s"]),
]


def _sample(n: int, width: int, s: int) -> Sample:
    arrays = {"x": np.zeros((n, 3, width), np.float32), "m": np.zeros((n, s), np.float32)}
    return Sample(arrays, "test")


def test_as_the_user_says() -> None:
    shapes = {"x": ((1, 8), (3, 3), (32, 64)), "s": ((1, 512),)}
    found = find_extents(INPUTS, shapes, {"x": (4, 3, 32)})
    assert found == {
        "n": Extent(1, 8, 4),
        ("x", 2): Extent(32, 64, 32),
        "s": Extent(1, 512, 512),  # nobody says which is usual: the largest
    }


def test_as_the_data_shows() -> None:
    found = find_extents(INPUTS, {}, {}, [_sample(1, 8, 5), _sample(4, 8, 7), _sample(2, 8, 6)])
    assert found == {"n": Extent(1, 4, 2), ("x", 2): Extent(8, 8, 8), "s": Extent(5, 7, 6)}


def test_the_user_goes_before_the_data() -> None:
    shapes = {"m": ((1, 32), (1, 512))}
    found = find_extents(INPUTS, shapes, {"m": (8, 128)}, [_sample(2, 8, 6)])
    assert found == {"n": Extent(1, 32, 8), "s": Extent(1, 512, 128), ("x", 2): Extent(8, 8, 8)}
    assert find_extents(INPUTS, shapes, {}, [_sample(2, 8, 6)])["s"] == Extent(1, 512, 6)


def test_all_dimensions_without_bounds_are_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"x\[2\], s have none.*--shape x=1\.\.32x3x1\.\.32@8x3x8"):
        find_extents(INPUTS, {"n": ((1, 4),)}, {})
    with pytest.raises(UsageError, match=r"and s has none; .*--shape m=1.*or real inputs"):
        find_extents(INPUTS, {"x": ((1, 4), (3, 3), (8, 8))}, {})


def test_data_beyond_the_bounds_is_named() -> None:
    with pytest.raises(UsageError, match=r"'n' is 9 in the data, which is not within 1\.\.8"):
        find_extents(INPUTS, {"n": ((1, 8),)}, {}, [_sample(2, 8, 6), _sample(9, 8, 6)])


def test_a_usual_size_beyond_the_bounds_is_named() -> None:
    with pytest.raises(UsageError, match=r"usual size 9 of dimension 'n' is not within 1\.\.8"):
        find_extents(INPUTS, {"n": ((1, 8),), "s": ((1, 1),), "x[2]": ((1, 1),)}, {"n": (9,)})


def test_fixed_models_have_no_extents() -> None:
    assert find_extents([ir.val("x", ir.DataType.FLOAT, [2, 3])], {}, {}) == {}


def test_an_unknown_rank_is_refused() -> None:
    with pytest.raises(UsageError, match="rank of input 'x' is unknown"):
        find_extents([ir.Value(name="x")], {}, {})


def test_words() -> None:
    assert str(Extent(1, 32, 8)) == "1..32@8"
    assert str(Extent(4, 4, 4)) == "4"


COMMON = ["x[2]=8", "n=1..64@4"]


def test_profiles_say_what_differs() -> None:
    found = find_profiles(INPUTS, [["n=1", "s=1..512@128"], ["m=8..32x128"], ["s=16"]], COMMON)
    width: dict[str | tuple[str, int], Extent] = {("x", 2): Extent(8, 8, 8)}
    assert found == [
        {"n": Extent(1, 1, 1), "s": Extent(1, 512, 128), **width},
        # The usual size for all is none of this one's.
        {"n": Extent(8, 32, 32), "s": Extent(128, 128, 128), **width},
        {"n": Extent(1, 64, 4), "s": Extent(16, 16, 16), **width},
    ]


def test_profiles_take_the_rest_from_the_data_that_fits_them() -> None:
    samples = [_sample(1, 8, 5), _sample(1, 8, 9), _sample(4, 8, 60), _sample(8, 16, 70)]
    found = find_profiles(INPUTS, [{"n": ((1, 1, 1),)}, {"n": ((2, 8, 4),)}], (), samples)
    assert found == [
        {"n": Extent(1, 1, 1), "s": Extent(5, 9, 5), ("x", 2): Extent(8, 8, 8)},
        {"n": Extent(2, 8, 4), "s": Extent(60, 70, 60), ("x", 2): Extent(8, 16, 8)},
    ]


@pytest.mark.parametrize(
    ("profiles", "message"),
    [
        ([["n=1", "s=4"], ["n=2"]], r"profile 2: .*, and s has none; .*--shape m="),
        ([["s=4"], ["n=1..64@4", "s=4"]], "profiles 1 and 2 are the same"),
        ([["s=4", "n=65"]], r"profile 1: dimension 'n' is 65, and the shapes for all .*1\.\.64"),
        ([["s=4", "x=2x3x8", "n=1"]], "profile 1: dimension 'n' cannot be both 2 and 1"),
        ([["s=4", "k=1"]], "profile 1: a shape is given for 'k'"),
        ([["s=8..4"]], "profile 1: shape 's=8..4' is not understood"),
        ([["s=1..4@5"]], "profile 1: .*usual size 5 is not within"),
        ([["s=4", ("x=1x4x8")]], "profile 1: .*fixed at 3 cannot be 4"),
    ],
)
def test_what_profiles_cannot_be(profiles: list[list[str]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_profiles(INPUTS, profiles, COMMON)


def test_data_that_fits_no_profile_is_named() -> None:
    profiles = [["n=1", "s=1..8"], ["n=4", "s=16"]]
    with pytest.raises(UsageError, match=r"fits none of the 2 profiles \(n = 4, x\[2\] = 8, s = 7"):
        find_profiles(INPUTS, profiles, (), [_sample(1, 8, 5), _sample(4, 8, 16), _sample(4, 8, 7)])


def test_fixed_models_have_no_profiles() -> None:
    with pytest.raises(UsageError, match="fixed sizes; leave the profiles out"):
        find_profiles([ir.val("x", ir.DataType.FLOAT, [2, 3])], [["x=2x3"]])
