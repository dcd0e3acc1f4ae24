"""A model is observed once, in one place or in many, and compiled from what was seen."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

import infopt
from infopt.errors import (
    CalibrationError,
    Interrupted,
    OutputError,
    UsageError,
    VerificationError,
)
from infopt.events import Event
from infopt.quant.calibration import Calibration, Request
from infopt.quant.calibration_file import load
from infopt.quant.statistics.histogram import Histogram
from infopt.recorded import Seen, seen

HEAD = '<ir_version: 10, opset_import: ["" : 21]> g '

Data = list[dict[str, np.ndarray]]


def _with_weights(text: str, shapes: dict[str, tuple[int, ...]], seed: int) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(HEAD + text)
    rng = np.random.default_rng(seed)
    for name, shape in shapes.items():
        # Channels of ranges of their own, so that there is something to equalize.
        spread = np.exp(rng.normal(0, 1, (shape[0], *[1] * (len(shape) - 1))))
        array = (rng.normal(0, 0.4, shape) * spread).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


def _pair(seed: int = 0) -> onnx.ModelProto:
    """A product behind a normalization whose channels differ: there are two calibrations."""
    text = """(float[N,3,8,8] x) => (float[N,3,8,16] y) {
      n = LayerNormalization (x, g, b)
      y = MatMul (n, w)
    }"""
    proto = _with_weights(text, {"b": (8,), "w": (8, 16)}, seed)
    gains = np.array([1, 1, 60, 1, 1, 1, 30, 1], np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(gains, "g"))
    return proto


def _layers(seed: int = 0) -> onnx.ModelProto:
    """A convolution: nothing can be smoothed, and there is one calibration."""
    text = "(float[N,3,8,8] x) => (float[N,4,8,8] y) { y = Conv (x, w) }"
    return _with_weights(text, {"w": (4, 3, 1, 1)}, seed)


def _data(count: int = 12, seed: int = 1) -> Data:
    rng = np.random.default_rng(seed)
    return [{"x": rng.normal(size=(16, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


def _digest(model: onnx.ModelProto, room: Path, **arguments: Any) -> str:
    """Of the int8 engine."""
    engine = infopt.optimize(model, room / "engine", precision="int8", verify=False, **arguments)
    return engine.manifest.model_digest


@pytest.mark.parametrize(("make", "stages"), [(_layers, 1), (_pair, 2)])
def test_the_engine_is_the_same_as_from_the_data(
    make: Callable[[], onnx.ModelProto], stages: int, tmp_path: Path
) -> None:
    found = infopt.calibrate(make(), tmp_path / "c.npz", data=_data())
    assert [stage.samples for stage in found.stages] == [12] * stages
    expected = _digest(make(), tmp_path, data=_data())
    assert _digest(make(), tmp_path, calibration=tmp_path / "c.npz") == expected
    assert _digest(make(), tmp_path, data=_data(seed=7)) != expected


def test_the_manifest_says_from_which_file(tmp_path: Path) -> None:
    infopt.calibrate(_pair(), tmp_path / "c.npz", data=_data(40))
    engine = infopt.optimize(
        _pair(),
        tmp_path / "engine",
        precision="int8",
        calibration=tmp_path / "c.npz",
        data=_data(3, seed=2),
        measure=False,
    )
    first, second = engine.manifest.evidence["calibration"]
    assert (first["file"], first["samples"], second["samples"]) == ("c.npz", 40, 40)
    assert first["sha256"] == second["sha256"]
    assert first["model"] != second["model"]
    assert first["data"] == second["data"]
    assert engine.manifest.evidence["equivalence"]["holds"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.npz", "engine"]


@pytest.mark.parametrize("as_file", [True, False], ids=["file", "object"])
def test_the_culprit_is_found_without_the_data(tmp_path: Path, as_file: bool) -> None:
    onnx.save(_pair(), tmp_path / "m.onnx")
    source = tmp_path / "m.onnx" if as_file else _pair()
    infopt.calibrate(source, tmp_path / "c.npz", data=_data())
    what = r"Guilty: quantize-static\{.*rule quantize-static.*in float with --max-error 90dB, leave"
    with pytest.raises(VerificationError, match=what):
        infopt.optimize(
            source,
            tmp_path / "e",
            precision="int8",
            calibration=tmp_path / "c.npz",
            least_sqnr=90.0,
        )


def test_made_up_inputs_that_lie_outside_are_spoken_of(tmp_path: Path) -> None:
    small = [{"x": 0.01 * sample["x"]} for sample in _data()]
    infopt.calibrate(_layers(), tmp_path / "c.npz", data=small)
    wanted: dict[str, Any] = {"precision": "int8", "calibration": tmp_path / "c.npz"}
    with pytest.raises(VerificationError, match=r"made up and may lie outside.*--data"):
        infopt.optimize(_layers(), tmp_path / "e", **wanted)
    engine = infopt.optimize(_layers(), tmp_path / "e", data=small, measure=False, **wanted)
    assert engine.manifest.evidence["equivalence"]["holds"]


def test_shards_of_one_calibration(tmp_path: Path) -> None:
    data = _data()
    for part in range(3):
        infopt.calibrate(_layers(), tmp_path / f"{part}.npz", data=data[part::3], shard=True)
    merged = infopt.merge_calibrations(
        [tmp_path / f"{part}.npz" for part in range(3)], tmp_path / "all.npz"
    )
    assert (len(merged.stages), merged.left_out) == (1, 0)
    expected = _digest(_layers(), tmp_path, data=data)
    assert _digest(_layers(), tmp_path, calibration=tmp_path / "all.npz") == expected


def test_shards_of_two_calibrations_meet_after_each(tmp_path: Path) -> None:
    data = _data()
    before = None
    for turn in range(2):
        parts = [tmp_path / f"{turn}-{part}.npz" for part in range(2)]
        for part, path in enumerate(parts):
            found = infopt.calibrate(
                _pair(), path, data=data[part::2], shard=True, continue_from=before
            )
            assert [stage.samples for stage in found.stages] == [*[12] * turn, 6]
        before = tmp_path / f"{turn}.npz"
        infopt.merge_calibrations(parts, before)
        if turn == 0:
            with pytest.raises(
                CalibrationError, match=r"asks for another.*--continue-from .*0\.npz"
            ):
                _digest(_pair(), tmp_path, calibration=before)
    expected = _digest(_pair(), tmp_path, data=data)
    assert _digest(_pair(), tmp_path, calibration=before) == expected
    complete = infopt.calibrate(
        _pair(), tmp_path / "c.npz", data=data, shard=True, continue_from=before
    )
    assert [stage.samples for stage in complete.stages] == [12, 12]


def test_what_shards_saw_by_themselves_is_left_out(tmp_path: Path) -> None:
    data = _data()
    paths = [tmp_path / f"{part}.npz" for part in range(2)]
    for part, path in enumerate(paths):
        infopt.calibrate(_pair(), path, data=data[part::2])
    found = infopt.merge_calibrations(paths, tmp_path / "all.npz")
    assert (len(found.stages), found.left_out) == (1, 1)


def test_another_model_is_refused(tmp_path: Path) -> None:
    infopt.calibrate(_layers(), tmp_path / "c.npz", data=_data())
    with pytest.raises(CalibrationError, match=r"c\.npz was observed on another model"):
        _digest(_layers(seed=1), tmp_path, calibration=tmp_path / "c.npz")
    assert not (tmp_path / "engine").exists()


def test_what_was_not_asked_for_is_refused(tmp_path: Path) -> None:
    infopt.calibrate(_layers(), tmp_path / "c.npz", data=_data())
    with pytest.raises(CalibrationError, match=r"asks for \(moments of '.*'\)"):
        _digest(_layers(), tmp_path, calibration=tmp_path / "c.npz", scheme="algorithm=gptq")
    infopt.calibrate(_layers(), tmp_path / "c.npz", data=_data(), scheme="algorithm=gptq")
    # What holds more than is asked for will do.
    assert _digest(_layers(), tmp_path, calibration=tmp_path / "c.npz")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_bytes(b"PK")
    with pytest.raises(CalibrationError, match="no calibration, or damaged"):
        _digest(_layers(), tmp_path, calibration=tmp_path / "c.npz")
    with pytest.raises(CalibrationError, match="no calibration, or damaged"):
        infopt.calibrate(
            _layers(), tmp_path / "d.npz", data=_data(), continue_from=tmp_path / "c.npz"
        )


@pytest.mark.parametrize("after", [5, 17])
def test_an_interrupted_run_continues_at_either_calibration(tmp_path: Path, after: int) -> None:
    seen_before = 0

    def interrupt(event: Event) -> None:
        nonlocal seen_before
        seen_before += event.stage == "calibrate"
        if seen_before == after:
            raise KeyboardInterrupt

    with pytest.raises(
        Interrupted, match=f"after {after % 12} samples.*the same command continues"
    ):
        infopt.calibrate(_pair(), tmp_path / "c.npz", data=_data(), on_event=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz.unfinished.npz"]

    events: list[Event] = []
    infopt.calibrate(_pair(), tmp_path / "c.npz", data=_data(), on_event=events.append)
    assert sum(event.stage == "calibrate" for event in events) == 24 - after
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]
    found = load(tmp_path / "c.npz")
    infopt.calibrate(_pair(), tmp_path / "d.npz", data=_data())
    for one, other in zip(found, load(tmp_path / "d.npz"), strict=True):
        assert (one.model, one.data, one.samples) == (other.model, other.data, other.samples)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What runs in the background of a shell ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("at", [1, 2, 9])
def test_an_interrupt_amid_a_sample_waits_for_its_end(
    tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what continues there would count that sample twice, for some of the values."""
    updates, original = itertools.count(1), Histogram.update

    def update(histogram: Histogram, array: np.ndarray) -> None:
        original(histogram, array)
        if next(updates) == at:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Histogram, "update", update)
    with pytest.raises(Interrupted, match="the same command continues"):
        infopt.calibrate(_pair(), tmp_path / "c.npz", data=_data())
    infopt.calibrate(_pair(), tmp_path / "c.npz", data=_data())
    infopt.calibrate(_pair(), tmp_path / "d.npz", data=_data())
    for one, other in zip(load(tmp_path / "c.npz"), load(tmp_path / "d.npz"), strict=True):
        assert (one.model, one.data, one.samples) == (other.model, other.data, other.samples)
        for request, statistic in one.statistics.items():
            for name, array in statistic.state().items():
                np.testing.assert_array_equal(array, other.statistics[request].state()[name])


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"precision": "fp32"}, UsageError, "nothing is to be observed for fp32"),
        ({"precision": "int9"}, UsageError, "no precision 'int9'"),
        ({"data": None}, UsageError, "give real inputs with --data"),
        ({"data": []}, UsageError, "holds no samples"),
        ({"scheme": {"methods": "mse"}}, UsageError, "did you mean 'method'"),
        ({"continue_from": "absent.npz"}, CalibrationError, r"absent\.npz cannot be read"),
        ({"pipeline": "calibrate"}, CalibrationError, "holds nothing that"),
    ],
    ids=str,
)
def test_wrong_arguments(
    tmp_path: Path, arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    wanted: dict[str, object] = {"data": _data(2), **arguments}
    with pytest.raises(error, match=said):
        infopt.calibrate(_layers(), tmp_path / "c.npz", **wanted)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_what_is_no_calibration_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "c.npz").write_text("mine")
    with pytest.raises(OutputError, match="does not overwrite it"):
        infopt.calibrate(_layers(), tmp_path / "c.npz", data=_data(2))
    with pytest.raises(OutputError, match="does not overwrite it"):
        infopt.merge_calibrations([tmp_path / "a.npz", tmp_path / "b.npz"], tmp_path / "c.npz")
    assert (tmp_path / "c.npz").read_text() == "mine"


def test_a_file_where_nothing_is_asked_for_or_beside_made_up_inputs(tmp_path: Path) -> None:
    infopt.calibrate(_layers(), tmp_path / "c.npz", data=_data())
    with pytest.raises(UsageError, match="nothing in the pipeline calibrates"):
        infopt.optimize(_layers(), tmp_path / "e", calibration=tmp_path / "c.npz")
    with pytest.raises(UsageError, match="both cannot be"):
        _digest(_layers(), tmp_path, calibration=tmp_path / "c.npz", synthetic_calibration=True)


def test_merging_takes_two(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two calibrations or more"):
        infopt.merge_calibrations([tmp_path / "a.npz"], tmp_path / "c.npz")


def test_what_is_told_of_values() -> None:
    stage = Calibration.empty(
        "model",
        [
            Request("a", "channels", -1),
            Request("a", "histogram"),
            Request("b", "channels", -1),
            Request("c", "moments", -1),
            Request("d", "histogram"),
        ],
        synthetic=False,
    )
    array = np.array([[-1, 0], [0, 3], [np.inf, np.nan]], np.float32)
    stage.requests, unseen = stage.requests[:-1], stage.requests[-1:]
    stage.update({"a": array, "b": array, "c": array})
    stage.requests += unseen
    assert list(seen(stage)) == [
        Seen("a", ("channels", "histogram"), -1.0, 3.0, 0.5, 2),
        Seen("b", ("channels",), -1.0, 3.0, None, 2),
        Seen("c", ("moments",), None, None, None, 1),
        Seen("d", ("histogram",)),
    ]
