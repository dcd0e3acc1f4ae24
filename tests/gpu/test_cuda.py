"""``onnxruntime:cuda`` on a real device: ``pytest -m gpu``."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import infopt
from infopt.backends import backend_for
from infopt.backends.base import RunOptions
from infopt.backends.onnxruntime import providers
from infopt.target import TARGETS

pytestmark = pytest.mark.gpu

MODEL = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[n,3,32,32] x) => (float[n,8,15,15] y, float[n,120] z)
<float[8,3,3,3] w, float[1800,120] v, int64[2] s = {0, -1}>
{
   c = Conv (x, w)
   r = Relu (c)
   y = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
   f = Reshape (y, s)
   z = MatMul (f, v)
}
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    reason = backend_for(TARGETS["onnxruntime:cuda"]).unavailable()
    if reason is not None:
        pytest.skip(reason)
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(MODEL.replace("<float[8,3,3,3] w, float[1800,120] v, ", "<"))
    for name, shape in (("w", (8, 3, 3, 3)), ("v", (1800, 120))):
        weight = rng.standard_normal(shape, np.float32) / 10
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    path = tmp_path_factory.mktemp("cuda") / "model.onnx"
    onnx.save(proto, path)
    return path


def _optimize(source: Path, name: str, **options: Any) -> infopt.Engine:
    return infopt.optimize(source, source.with_name(name), target="onnxruntime:cuda", **options)


@pytest.fixture(scope="module")
def engine(source: Path) -> infopt.Engine:
    # TF32 convolutions round at 1e-3; at fp32 they are asked to compute in fp32.
    return _optimize(source, "engine", provider_options={"use_tf32": "0"})


@pytest.fixture(scope="module")
def halves(source: Path) -> infopt.Engine:
    return _optimize(source, "halves", precision="fp16")


@pytest.fixture(scope="module")
def session(engine: infopt.Engine) -> infopt.Session:
    return infopt.load(engine.path, provider_options={"use_tf32": "0"})


def test_it_was_compared_and_measured_on_the_device(engine: infopt.Engine) -> None:
    evidence = engine.manifest.evidence
    assert evidence["equivalence"]["ran"] == "on onnxruntime:cuda"
    assert evidence["equivalence"]["holds"]
    assert evidence["repeats"]["times"] == 10
    assert evidence["repeats"]["notes"] == []
    assert evidence["speed"]["subjects"]["engine"]["ratio"]["value"] > 0


def _x(n: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 3, 32, 32), np.float32)


def test_numpy_in_numpy_out(session: infopt.Session) -> None:
    outputs = session(x=_x(4))
    assert outputs["z"].shape == (4, 120)
    assert isinstance(outputs["z"], np.ndarray)


def test_torch_tensors_stay_on_the_device(session: infopt.Session) -> None:
    torch = pytest.importorskip("torch")
    there = session(x=torch.from_numpy(_x(4)).cuda())
    assert there["z"].is_cuda
    np.testing.assert_allclose(
        there["z"].cpu().numpy(), session(x=_x(4))["z"], rtol=1e-4, atol=1e-5
    )


def test_it_waits_for_what_torch_was_given(session: infopt.Session) -> None:
    torch = pytest.importorskip("torch")
    expected = session(x=_x(4))["z"]
    large = torch.randn(4096, 4096, device="cuda")
    for _ in range(5):
        for _ in range(20):
            large = large @ large / 64
        x = torch.zeros(4, 3, 32, 32, device="cuda")
        x += torch.from_numpy(_x(4)).cuda() + 0 * large.nan_to_num().clamp(-1, 1).mean()
        np.testing.assert_allclose(session(x=x)["z"].cpu().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_halves_are_compared_on_the_device(halves: infopt.Engine) -> None:
    evidence = halves.manifest.evidence
    assert evidence["equivalence"]["ran"] == "on onnxruntime:cuda"
    assert evidence["equivalence"]["holds"]
    assert evidence["repeats"]["times"] == 10


@pytest.mark.parametrize("convert", ["arrays", "tensors"])
def test_captured_calls_compute_the_same(halves: infopt.Engine, convert: str) -> None:
    torch = pytest.importorskip("torch")
    plain = infopt.load(halves.path)
    captured = infopt.load(halves.path, provider_options={"enable_cuda_graph": "1"})
    for seed, n in enumerate([4, 4, 1, 4, 1, 7, 4]):
        x = _x(n, seed)
        expected = plain(x=x)
        found = captured(x=x if convert == "arrays" else torch.from_numpy(x).cuda())
        for name, array in expected.items():
            value = found[name] if convert == "arrays" else found[name].cpu().numpy()
            # A graph holds the same kernels on the same shapes.
            np.testing.assert_allclose(value, array, rtol=2e-3, atol=2e-3)
    assert captured.facts() == {"cuda_graphs": "one for each shape, 3 so far"}


def test_captured_calls_of_several_threads_do_not_mix(halves: infopt.Engine) -> None:
    captured = infopt.load(halves.path, provider_options={"enable_cuda_graph": "1"})
    expected = {seed: captured(x=_x(4, seed)) for seed in range(4)}
    wrong: list[int] = []

    def work(seed: int) -> None:
        for _ in range(25):
            found = captured(x=_x(4, seed))
            if not all(np.array_equal(found[name], expected[seed][name]) for name in found):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize("word", ["tensorrt", "tensorrt-rtx"])
def test_providers_of_tensorrt(engine: infopt.Engine, word: str) -> None:
    options = {"provider": word}
    reason = providers.unavailable(TARGETS["onnxruntime:cuda"], options)
    if reason is not None:
        pytest.skip(reason)
    torch = pytest.importorskip("torch")
    session = infopt.load(engine.path, provider_options=options)
    expected = backend_for(TARGETS["onnxruntime:cuda"]).simulate(engine.path, RunOptions())(x=_x(4))
    for found in (session(x=_x(4)), session(x=torch.from_numpy(_x(4)).cuda())):
        for name, array in expected.items():
            value = np.asarray(torch.as_tensor(found[name]).cpu())
            np.testing.assert_allclose(value, array, rtol=1e-2, atol=1e-2)  # TF32
