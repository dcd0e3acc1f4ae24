"""Calibrations as files: whole, merged, damaged, hostile."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from infopt.errors import CalibrationError, QuantizationError
from infopt.quant.calibration import Calibration, Request

REQUESTS = (
    Request("x", "histogram"),
    Request("x", "channels", 1),
    Request("x", "moments", -1),
    Request("never", "histogram"),
)


def _observed(seed: int, samples: int = 3) -> Calibration:
    rng = np.random.default_rng(seed)
    found = Calibration.empty("model", REQUESTS[:3], synthetic=False)
    for _ in range(samples):
        found.update({"x": rng.normal(size=(2, 4, 3)).astype(np.float32)})
    found.data = f"data {seed}"
    return found


def _assert_same(a: Calibration, b: Calibration) -> None:
    assert (a.model, a.requests, a.data, a.samples) == (b.model, b.requests, b.data, b.samples)
    assert a.statistics.keys() == b.statistics.keys()
    for request, statistic in a.statistics.items():
        state = b.statistics[request].state()
        for field, array in statistic.state().items():
            np.testing.assert_array_equal(array, state[field])


def test_a_file_brings_everything_back(tmp_path: Path) -> None:
    found = _observed(0)
    found.save(tmp_path / "c.npz")
    _assert_same(Calibration.load(tmp_path / "c.npz"), found)
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_what_was_never_computed_has_no_statistic(tmp_path: Path) -> None:
    found = Calibration.empty("model", REQUESTS, synthetic=True)
    found.save(tmp_path / "c.npz")
    again = Calibration.load(tmp_path / "c.npz")
    assert again.histogram("x") is None
    assert again.channels("x", 1) is None
    assert again.synthetic


def test_shards_add_up() -> None:
    first, second = _observed(1), _observed(2)
    first.merge(second)
    assert first.samples == 6
    histogram = first.histogram("x")
    assert histogram is not None
    assert histogram.count == 6 * 2 * 4 * 3


def test_shards_of_other_models_do_not() -> None:
    other = _observed(1)
    other.model = "another"
    with pytest.raises(CalibrationError, match="different models"):
        _observed(0).merge(other)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", pickle.dumps({"format": "x"})])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.npz"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match="calibrate again"):
        Calibration.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        Calibration.load(tmp_path / "c.npz")


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 99},
        {"requests": [{"value": "x", "kind": "magic", "axis": 0}]},
        {"requests": 7},
        {"requests": [{"value": "x", "kind": "channels", "axis": 0}]},
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "c.npz"
    _observed(0).save(path)
    with np.load(path) as archive:
        arrays = dict(archive)
    header = {**json.loads(arrays["header"].tobytes()), **change}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)
    with pytest.raises((CalibrationError, QuantizationError)):
        Calibration.load(path)
