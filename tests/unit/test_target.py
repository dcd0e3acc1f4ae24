import pytest

from infopt.errors import TargetError
from infopt.target import TARGETS, parse_target


def test_a_target_for_certain_gpus() -> None:
    target = parse_target("tensorrt-rtx:sm120+sm86")
    assert target.name == "tensorrt-rtx:sm86+sm120"
    assert target.capabilities == ("sm86", "sm120")
    assert target.runtime == "tensorrt-rtx"
    assert "compute capability 8.6 and compute capability 12.0" in target.description
    assert parse_target(target.name) == target


def test_without_gpus_the_runtime_chooses() -> None:
    assert parse_target("tensorrt-rtx") is TARGETS["tensorrt-rtx"]
    assert TARGETS["tensorrt-rtx"].capabilities == ()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tensorrt-rtx:sm98", r"does not build for 'sm98'; did you mean 'sm89'\?.*sm75, sm80"),
        ("tensorrt-rtx:sm86+", "does not build for ''"),
        ("tensorrt-rtx:", "does not build for ''"),
        ("tensorrt-rtx:8.9", "it builds for sm75, sm80, sm86, sm89, sm120, sm121"),
        ("tensorrt:sm89", "for the GPU at hand.*tensorrt-rtx:sm89"),
        ("tensort-rtx", "no target 'tensort-rtx'; did you mean 'tensorrt-rtx'"),
        ("tensort-rtx:sm89", "no target.*known: onnxruntime:cpu"),
    ],
)
def test_what_is_not_known_is_named(name: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        parse_target(name)
