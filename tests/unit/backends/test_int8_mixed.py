"""Engines of int8 and float: ONNX Runtime computes what they say, in the types that they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import infopt
from infopt.backends import backend_for
from infopt.backends.base import RunOptions
from infopt.evidence.metrics import difference
from infopt.target import DEFAULT_TARGET, parse_target

BACKEND = backend_for(parse_target(DEFAULT_TARGET))
CHANNELS = 16
CONVOLUTIONS = f"""<ir_version: 10, opset_import: ["" : 21]>
g (float[n,3,8,8] x) => (float[n,{CHANNELS},8,8] y) {{
  [before] a = Conv(x, w1, b)
  [kept] d = Conv<group = {CHANNELS}, pads = [1, 1, 1, 1]>(a, w2, b)
  [behind] y = Conv(d, w3, b)
}}"""


@pytest.fixture
def engine(tmp_path: Path) -> infopt.Engine:
    """A depthwise convolution in float between integers, one of its weights far larger than others.

    One scale for all of them would leave nothing of the others.
    """
    rng = np.random.default_rng(0)
    large = np.where(np.arange(CHANNELS) == 0, 100, 1)[:, None, None, None]
    arrays: dict[str, Any] = {
        "w1": rng.normal(size=(CHANNELS, 3, 1, 1)) / large,
        "w2": rng.normal(size=(CHANNELS, 1, 3, 3)) * large,
        "w3": rng.normal(size=(CHANNELS, CHANNELS, 1, 1)),
        "b": rng.normal(size=(CHANNELS,)) / large[:, 0, 0, 0],
    }
    proto = onnx.parser.parse_model(CONVOLUTIONS)
    for name, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype("f"), name))
    onnx.save(proto, tmp_path / "m.onnx")
    return infopt.optimize(
        tmp_path / "m.onnx",
        tmp_path / "engine",
        pipeline="calibrate,quantize-static{operators=Conv,outputs=Conv,keep=kept}",
        data=_samples(),
        measure=False,
        tolerance=np.inf,
        verify=False,
    )


def _samples() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(4)]


def test_what_is_kept_in_float_is_not_quantized_by_the_runtime(engine: infopt.Engine) -> None:
    session = infopt.load(engine.path)
    written = BACKEND.simulate(engine.path, RunOptions(optimize=False))
    for sample in _samples():
        found = difference(session(sample)["y"], written(sample)["y"])
        # Sums in another order move a number now and then across a border between two integers.
        assert found.sqnr_db > 40


def test_what_is_kept_in_float_is_not_missed_among_the_integers(engine: infopt.Engine) -> None:
    outcome = BACKEND.outcome(engine.path)
    assert outcome is not None
    assert outcome.floating == ("behind",)  # its result goes to the caller, as floats
    assert outcome.integer == 1
