import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import models


def test_nothing_heavy_is_imported() -> None:
    code = """
import sys
from benchmarks import models
models.minilm(), models.text_detection(), models.text_direction(), models.silero_vad()
print(sorted({"torch", "onnx", "onnxruntime", "transformers", "silero_vad"} & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_models_are_where_they_are_said_to_be() -> None:
    for path in (models.text_detection(), models.text_direction(), models.silero_vad()):
        assert path.is_file()
    assert (models.minilm() / "config.json").is_file()


def test_a_missing_package_says_what_to_install() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pip install no-such==1\.0"):
        models.package_directory("no_such_package", "no-such==1.0")


@pytest.mark.parametrize("model", models.ZOO[2:], ids=lambda model: model.name)
def test_the_inputs_are_those_of_the_model(model: models.ZooModel) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(model.original(Path()), providers=["CPUExecutionProvider"])
    for size in model.sizes:
        feeds = model.feeds(2, size, np.random.default_rng(0))
        assert set(feeds) == {value.name for value in session.get_inputs()}
        outputs = session.run(None, feeds)
        assert all(np.isfinite(output).all() for output in outputs)


def test_the_same_seed_gives_the_same_inputs() -> None:
    for model in models.ZOO:
        first, again = (model.feeds(2, model.sizes[0], np.random.default_rng(3)) for _ in range(2))
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])


def test_masks_are_ragged_and_padding_is_zero() -> None:
    feeds = models.ZOO[0].feeds(8, 32, np.random.default_rng(0))
    lengths = feeds["attention_mask"].sum(1)
    assert lengths[0] == 32
    assert len(set(lengths)) > 1
    assert not feeds["input_ids"][feeds["attention_mask"] == 0].any()


def test_a_synthetic_model_runs_and_its_weights_lie_beside_it(tmp_path: Path) -> None:
    import onnxruntime as ort

    path = models.synthetic(tmp_path, layers=3, width=64)
    data = path.with_suffix(".data")
    assert data.stat().st_size == 3 * (64 * 64 + 64) * 4
    assert path.stat().st_size < 5000
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {"x": np.ones((2, 64), np.float32)})
    assert output.shape == (2, 64)
    assert 0.01 < np.abs(output).mean() < 10  # the scale of the weights keeps values in range
    before = path.stat().st_mtime_ns
    assert models.synthetic(tmp_path, layers=3, width=64).stat().st_mtime_ns == before


def test_a_build_that_fails_leaves_no_file_to_be_taken_for_the_model(tmp_path: Path) -> None:
    def fails(path: Path) -> None:
        path.write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        models.once(tmp_path / "model.onnx", fails)
    assert not any(tmp_path.iterdir())
