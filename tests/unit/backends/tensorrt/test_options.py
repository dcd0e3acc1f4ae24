import dataclasses

import pytest

from infopt.backends import backend_for
from infopt.backends.base import RunOptions
from infopt.backends.tensorrt.options import BuildOptions
from infopt.errors import UsageError
from infopt.target import parse_target


def test_what_is_not_said_is_left_to_tensorrt() -> None:
    assert BuildOptions.parse({}) == BuildOptions()


def test_every_option_can_be_said() -> None:
    given = {
        "workspace": "4GiB",
        "optimization_level": "5",
        "tf32": "true",
        "timing_cache": "off",
        "version_compatible": "true",
        "exclude_lean_runtime": "true",
        "hardware_compatible": "TRUE",
        "refit": "1",
        "strip_weights": "on",
        "weight_streaming": "true",
        "sparse_weights": "true",
        "tactic_sources": "jit_convolutions+EDGE_MASK_CONVOLUTIONS",
        "max_tactics": "16",
        "timing_iterations": "4",
        "aux_streams": "0",
        "tiling": "Fast",
    }
    assert set(given) == {field.name for field in dataclasses.fields(BuildOptions)}
    found = BuildOptions.parse(given)
    assert found.as_dict() == {
        "workspace": 4 << 30,
        "optimization_level": 5,
        "tf32": True,
        "timing_cache": False,
        "version_compatible": True,
        "exclude_lean_runtime": True,
        "hardware_compatible": "ampere",
        "refit": True,
        "strip_weights": True,
        "weight_streaming": True,
        "sparse_weights": True,
        "tactic_sources": ("JIT_CONVOLUTIONS", "EDGE_MASK_CONVOLUTIONS"),
        "max_tactics": 16,
        "timing_iterations": 4,
        "aux_streams": 0,
        "tiling": "fast",
    }


def test_words_for_none_of_it() -> None:
    assert BuildOptions.parse({"hardware_compatible": "false"}) == BuildOptions()
    assert BuildOptions.parse({"hardware_compatible": "same"}).hardware_compatible == "same"
    assert BuildOptions.parse({"tactic_sources": "none"}).tactic_sources == ()


@pytest.mark.parametrize(
    ("text", "size"), [("512MB", 512_000_000), ("1 KiB", 1024), ("7", 7), ("2GB", 2_000_000_000)]
)
def test_sizes(text: str, size: int) -> None:
    assert BuildOptions.parse({"workspace": text}).workspace == size


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("workspaces", "1", "no option 'workspaces'; did you mean 'workspace'"),
        ("device_id", "1", "known: workspace, optimization_level"),
        ("workspace", "much", "write workspace=4GiB"),
        ("workspace", "0", "write workspace=4GiB"),
        ("optimization_level", "6", "a level from 0 to 5"),
        ("optimization_level", "", "a level from 0 to 5"),
        ("refit", "maybe", "write refit=true or =false"),
        ("hardware_compatible", "all", "one of ampere, same"),
        ("tactic_sources", "cudnn", "of edge_mask_convolutions, jit_convolutions"),
        ("tactic_sources", "none+jit_convolutions", "it is none, or names"),
        ("tactic_sources", "", "it is none, or names"),
        ("max_tactics", "0", "a number of at least 1"),
        ("timing_iterations", "-1", "a number of at least 1"),
        ("aux_streams", "two", "a number of at least 0"),
        ("tiling", "slow", "one of none, fast, moderate, full"),
        ("exclude_lean_runtime", "true", "for engines with version_compatible"),
    ],
)
def test_what_is_not_understood_is_named(name: str, text: str, message: str) -> None:
    backend = backend_for(parse_target("tensorrt-rtx"))
    with pytest.raises(UsageError, match=message):
        backend.check_options(RunOptions(provider_options={name: text}))


@pytest.mark.parametrize(
    ("name", "rtx", "gpu", "message"),
    [
        ("version_compatible", True, True, "for its own version only"),
        ("hardware_compatible", True, True, r"tensorrt-rtx:sm86\+sm89"),
        ("refit", True, False, "with refit only where there is an NVIDIA GPU"),
        ("strip_weights", False, False, "with strip_weights only where"),
    ],
)
def test_what_a_build_cannot_do_is_refused(name: str, rtx: bool, gpu: bool, message: str) -> None:
    options = BuildOptions.parse({name: "true"})
    with pytest.raises(UsageError, match=message):
        options.check(rtx=rtx, gpu=gpu)
    options.check(rtx=False, gpu=True)
    BuildOptions().check(rtx=rtx, gpu=gpu)
