"""A model is observed on data: streamed, resumed, interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import infopt
from infopt.backends import backend_for
from infopt.backends.base import Outcome
from infopt.backends.onnxruntime import OnnxRuntimeBackend
from infopt.calibration import Calibrator, with_outputs
from infopt.errors import CalibrationError, Interrupted, PipelineError, StrictError, UsageError
from infopt.events import Event
from infopt.evidence.equivalence import Sample
from infopt.ir.digest import model_digest
from infopt.pipeline import Pipeline
from infopt.quant.calibration import Calibration, Request
from infopt.quant.calibration_file import load, save
from infopt.target import DEFAULT_TARGET, parse_target
from tests.support.models import parse

TEXT = """g (float[N,4] x) => (float[N,2] y)
    <float[4,8] w = {WEIGHTS}, float[8,2] v = {MORE}>
    {
      p = MatMul(x, w)
      r = Relu(p)
      y = MatMul(r, v)
    }"""
WANTED = frozenset({Request("r", "histogram"), Request("x", "channels", -1)})


def _model() -> ir.Model:
    rng = np.random.default_rng(0)
    text = TEXT
    for word, count in (("WEIGHTS", 32), ("MORE", 16)):
        text = text.replace(word, ", ".join(f"{number:.4f}" for number in rng.normal(size=count)))
    return parse(text)


def _samples(count: int = 12) -> list[Sample]:
    rng = np.random.default_rng(1)
    return [
        Sample({"x": rng.normal(size=(3, 4)).astype(np.float32)}, str(number))
        for number in range(count)
    ]


def _calibrator(
    tmp_path: Path, samples: list[Sample] | None = None, kept: Path | None = None
) -> Calibrator:
    room = tmp_path / f"scratch-{len(list(tmp_path.iterdir()))}"
    room.mkdir()
    given = _samples() if samples is None else samples
    backend = backend_for(parse_target(DEFAULT_TARGET))
    return Calibrator(backend, lambda: given, room, total=len(given), kept=kept)


def _states(found: Calibration) -> list[bytes]:
    return [
        array.tobytes()
        for request in found.requests
        for array in found.statistics[request].state().values()
    ]


def test_values_and_inputs_are_observed(tmp_path: Path) -> None:
    found = _calibrator(tmp_path)(_model(), WANTED)
    histogram, channels = found.histogram("r"), found.channels("x", -1)
    assert histogram is not None
    assert channels is not None
    assert (found.samples, histogram.count, histogram.low) == (12, 12 * 3 * 8, 0)
    rows = np.concatenate([sample.inputs["x"] for sample in _samples()])
    np.testing.assert_allclose(channels.mean, rows.astype(np.float64).mean(axis=0))


def test_batches_of_another_size_give_the_same(tmp_path: Path) -> None:
    rows = np.concatenate([sample.inputs["x"] for sample in _samples()])
    single = [Sample({"x": row[None]}, "row") for row in rows]
    whole = _calibrator(tmp_path)(_model(), WANTED)
    assert _states(_calibrator(tmp_path, single)(_model(), WANTED)) == _states(whole)


def test_shards_give_the_same(tmp_path: Path) -> None:
    samples = _samples()
    whole = _calibrator(tmp_path)(_model(), WANTED)
    first, *rest = (_calibrator(tmp_path, samples[at::4])(_model(), WANTED) for at in range(4))
    for shard in rest:
        first.merge(shard)
    assert _states(first) == _states(whole)


def test_an_interrupted_run_continues(tmp_path: Path) -> None:
    kept = tmp_path / "kept.npz"
    samples = _samples()
    broken = _calibrator(tmp_path, kept=kept)

    def stopping() -> Iterator[Sample]:
        yield from samples[:5]
        raise KeyboardInterrupt

    broken.samples = stopping
    with pytest.raises(Interrupted, match="after 5 samples"):
        broken(_model(), WANTED)
    assert [stage.samples for stage in load(kept)] == [5]

    events: list[Event] = []
    again = _calibrator(tmp_path, kept=kept)
    again.tell = events.append
    found = again(_model(), WANTED)
    assert [event.done for event in events] == list(range(6, 13))
    assert _states(found) == _states(_calibrator(tmp_path)(_model(), WANTED))
    again.forget()
    assert not kept.exists()


@pytest.mark.parametrize("other", ["data", "model", "nonsense"])
def test_what_was_kept_of_something_else_is_not_used(tmp_path: Path, other: str) -> None:
    kept = tmp_path / "kept.npz"
    if other == "nonsense":
        kept.write_bytes(b"nonsense")
    else:
        found = Calibration.empty(model_digest(_model()), WANTED, synthetic=False)
        found.update({"x": np.full((3, 4), 99, np.float32), "r": np.zeros((3, 8), np.float32)})
        found.data = "sha256:0"
        found.model = found.model if other == "data" else "another"
        save([found], kept)
    found = _calibrator(tmp_path, kept=kept)(_model(), WANTED)
    assert _states(found) == _states(_calibrator(tmp_path)(_model(), WANTED))


def test_no_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no samples"):
        _calibrator(tmp_path, [])(_model(), WANTED)


def test_the_model_is_left_as_it_is() -> None:
    model = _model()
    before = model_digest(model)
    assert [value.name for value in with_outputs(model, ["r", "x"]).graph.outputs] == ["y", "r"]
    assert model_digest(model) == before


def test_a_pipeline_that_calibrates_needs_data() -> None:
    pipeline = Pipeline.parse("calibrate,quantize-static")
    assert str(pipeline) == "calibrate,quantize-static"
    assert pipeline.calibrates()
    with pytest.raises(PipelineError, match="give data"):
        pipeline.run(_model())


def _data(count: int = 40) -> list[dict[str, np.ndarray]]:
    return [dict(sample.inputs) for sample in _samples(count)]


def test_int8_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--synthetic-calibration"):
        infopt.optimize(_model(), tmp_path / "e", precision="int8")
    assert not (tmp_path / "e").exists()


def test_int8_computes_with_integers(tmp_path: Path) -> None:
    engine = infopt.optimize(
        _model(), tmp_path / "e", precision="int8", data=_data(), measure=False
    )
    evidence = engine.manifest.evidence
    assert evidence["outcome"]["integer"] == 2
    assert evidence["outcome"]["floating"] == []
    # Before channels are smoothed, and again behind that.
    assert [found["samples"] for found in evidence["calibration"]] == [40, 40]
    assert evidence["equivalence"]["outputs"]["y"]["sqnr_db"] > 25
    assert "calibrate,quantize-static" in engine.manifest.pipeline
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_made_up_inputs_are_named(tmp_path: Path) -> None:
    engine = infopt.optimize(
        _model(), tmp_path / "e", precision="int8", synthetic_calibration=True, measure=False
    )
    assert all(found["synthetic"] for found in engine.manifest.evidence["calibration"])


def test_what_is_too_far_from_the_original_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(infopt.InfoptError, match=r"SQNR of .* dB, needed are 90.0 dB"):
        infopt.optimize(_model(), tmp_path / "e", precision="int8", data=_data(), least_sqnr=90.0)
    assert not (tmp_path / "e").exists()


def test_strict_forbids_products_that_stay_floating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = "calibrate,quantize-static{operators=MatMul}"
    found = Outcome({"MatMul": 1}, 0, ("p",))
    monkeypatch.setattr(OnnxRuntimeBackend, "outcome", lambda *_: found)
    with pytest.raises(StrictError, match="floating: p"):
        infopt.optimize(
            _model(),
            tmp_path / "e",
            precision="int8",
            pipeline=pipeline,
            data=_data(),
            strict=True,
            measure=False,
        )
