"""Calibrations as files: whole, merged, damaged, hostile."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infopt.errors import CalibrationError, OutputError, StorageError
from infopt.quant.calibration import Calibration, Request
from infopt.quant.calibration_file import check_output, load, merged, save

REQUESTS = (
    Request("x", "channels", 1),
    Request("x", "histogram"),
    Request("x", "moments", -1),
)
NEVER = Request("never", "histogram")


def _observed(seed: int, model: str = "model", samples: int = 3) -> Calibration:
    rng = np.random.default_rng(seed)
    found = Calibration.empty(model, REQUESTS, synthetic=False)
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
    stages = [_observed(0), _observed(1, "what follows")]
    save(stages, tmp_path / "c.npz")
    for found, stage in zip(load(tmp_path / "c.npz"), stages, strict=True):
        _assert_same(found, stage)
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_what_was_never_computed_has_no_statistic(tmp_path: Path) -> None:
    save([Calibration.empty("model", [*REQUESTS, NEVER], synthetic=True)], tmp_path / "c.npz")
    (again,) = load(tmp_path / "c.npz")
    assert again.histogram("x") is None
    assert again.channels("x", 1) is None
    assert again.synthetic


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be written"):
        save([_observed(0)], tmp_path / "no such place" / "c.npz")


def test_what_is_no_calibration_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    check_output(path)
    save([_observed(0)], path)
    check_output(path)
    np.savez(path, x=np.ones(3))
    with pytest.raises(OutputError, match="is no calibration"):
        check_output(path)
    with pytest.raises(OutputError, match="is no calibration"):
        check_output(tmp_path)


def _array(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        pickle.dumps({"format": "x"}),
        _array(np.ones(3)),
        _array(np.array([{}], object)),
    ],
    ids=["empty", "zip", "pickle", "array", "objects"],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.npz"
    path.write_bytes(content)
    with pytest.raises(CalibrationError, match=r"c\.npz is no calibration.*calibrate again"):
        load(path)


def test_a_file_that_was_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    save([_observed(0)], path)
    whole = path.read_bytes()
    for part in (1, 2, 3):
        path.write_bytes(whole[: len(whole) * part // 4])
        with pytest.raises(CalibrationError, match="calibrate again"):
            load(path)


def test_a_bit_that_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    save([_observed(0)], path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 3] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CalibrationError, match="calibrate again"):
        load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cannot be read"):
        load(tmp_path / "c.npz")
    with pytest.raises(CalibrationError, match="cannot be read"):
        load(tmp_path)


def _rewritten(path: Path, change: Callable[[dict[str, Any], dict[str, np.ndarray]], None]) -> None:
    """The file with another header or other arrays, and all checksums right."""
    save([_observed(0)], path)
    with np.load(path) as archive:
        arrays = dict(archive)
    header = json.loads(arrays.pop("header").tobytes())
    change(header, arrays)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    "change",
    [
        {"format": "other"},
        {"version": 99},
        {"stages": 7},
        {"stages": [{}]},
        {"stages": []},
        {"requests": [{"value": "x", "kind": "magic", "axis": 0}]},
        {"requests": 7},
        {"requests": [{"value": "x", "kind": "channels", "axis": 0}]},
        {"requests": [{"value": "x", "kind": "channels", "axis": 1}] * 3},
        {"samples": -1},
        {"samples": "many"},
    ],
    ids=str,
)
def test_a_header_that_lies_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    def lie(header: dict[str, Any], _: dict[str, np.ndarray]) -> None:
        ours = header.keys() >= change.keys()
        (header if ours else header["stages"][0]).update(change)

    _rewritten(tmp_path / "c.npz", lie)
    with pytest.raises(CalibrationError, match="calibrate again"):
        load(tmp_path / "c.npz")


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("0/0/low", np.zeros(7, np.float32)),
        ("0/0/low", np.zeros(4, np.float64)),
        ("0/0/count", np.full(4, -1)),
        ("0/2/sum", np.zeros((3, 4))),
        ("0/2/sum", np.full((3, 3), np.nan)),
        ("0/9/sum", np.zeros((3, 3))),
        ("../../evil", np.zeros(3)),
        ("0/0/../low", np.zeros(3)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, name: str, array: np.ndarray) -> None:
    _rewritten(tmp_path / "c.npz", lambda _, arrays: arrays.update({name: array}))
    with pytest.raises(CalibrationError, match=r"c\.npz"):
        load(tmp_path / "c.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_pickles_inside_are_not_opened(tmp_path: Path) -> None:
    path, canary = tmp_path / "c.npz", tmp_path / "canary"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (canary,)

    save([_observed(0)], path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("0/5/low.npy", _array(np.array([Payload()], object)))
    with pytest.raises(CalibrationError, match="calibrate again"):
        load(path)
    assert not canary.exists()


def test_an_array_larger_than_any_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    save([_observed(0)], path)
    small, huge = b"(2,), }" + b" " * 15, b"(2000000000000000,), }"
    content = _array(np.zeros(2))
    assert small in content
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("0/5/low.npy", content.replace(small, huge))
    with pytest.raises(CalibrationError, match="calibrate again"):
        load(path)


def _files(tmp_path: Path, *files: list[Calibration]) -> list[Path]:
    paths = [tmp_path / f"{number}.npz" for number in range(len(files))]
    for path, stages in zip(paths, files, strict=True):
        save(stages, path)
    return paths


def test_merged_files_are_one_run_over_all(tmp_path: Path) -> None:
    whole = Calibration.empty("model", REQUESTS, synthetic=False)
    for seed in range(3):
        rng = np.random.default_rng(seed)
        for _ in range(3):
            whole.update({"x": rng.normal(size=(2, 4, 3)).astype(np.float32)})
    (found,), left_out = merged(_files(tmp_path, *([_observed(seed)] for seed in range(3))))
    assert (found.samples, left_out) == (9, 0)
    for request in REQUESTS:
        state = found.statistics[request].state()
        for field, array in whole.statistics[request].state().items():
            if request.kind == "moments":
                np.testing.assert_allclose(state[field], array, rtol=1e-6)
            else:
                np.testing.assert_array_equal(state[field], array)


def test_later_stages_of_other_models_are_left_out(tmp_path: Path) -> None:
    paths = _files(
        tmp_path,
        [_observed(0), _observed(0, "after 0"), _observed(0, "after that")],
        [_observed(1), _observed(1, "after 1")],
    )
    (found,), left_out = merged(paths)
    assert (found.samples, found.data, left_out) == (6, "data 0+data 1", 2)


def test_a_stage_that_shards_have_in_common_counts_once(tmp_path: Path) -> None:
    paths = _files(
        tmp_path,
        [_observed(9), _observed(0, "after 9")],
        [_observed(9), _observed(1, "after 9")],
    )
    (common, later), left_out = merged(paths)
    assert (common.samples, later.samples, left_out) == (3, 6, 0)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([_observed(1, "another")], r"1\.npz was observed on another model"),
        ([_observed(0)], r"1\.npz was observed on the same data"),
        ([], r"1\.npz is no calibration.*nothing was observed"),
    ],
    ids=["model", "data", "nothing"],
)
def test_files_that_do_not_belong_together(
    tmp_path: Path, others: list[Calibration], said: str
) -> None:
    with pytest.raises(CalibrationError, match=said):
        merged(_files(tmp_path, [_observed(0)], others))


def test_other_values_are_not_merged(tmp_path: Path) -> None:
    other = Calibration.empty("model", [NEVER], synthetic=False)
    with pytest.raises(CalibrationError, match=r"1\.npz: calibrations of different models"):
        merged(_files(tmp_path, [_observed(0)], [other]))
