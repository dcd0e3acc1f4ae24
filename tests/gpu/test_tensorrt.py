"""TensorRT on a real device: ``pytest -m gpu``. It has not run yet: no GPU was at hand."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import infopt
from infopt.backends import backend_for
from infopt.errors import DataError
from infopt.target import TARGETS

pytestmark = pytest.mark.gpu

MODEL = """
<ir_version: 10, opset_import: ["" : 20]>
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


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def target(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    reason = backend_for(TARGETS[name]).unavailable()
    if reason is not None:
        pytest.skip(reason)
    return name


@pytest.fixture(scope="module")
def source(target: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(MODEL.replace("<float[8,3,3,3] w, float[1800,120] v, ", "<"))
    for name, shape in (("w", (8, 3, 3, 3)), ("v", (1800, 120))):
        weight = rng.standard_normal(shape, np.float32) / 10
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    path = tmp_path_factory.mktemp(target) / "model.onnx"
    onnx.save(proto, path)
    return path


def _optimize(source: Path, target: str, name: str, **options: Any) -> infopt.Engine:
    shapes = ["x=1..8x3x32x32@4x3x32x32"]
    output = source.with_name(name)
    return infopt.optimize(source, output, target=target, shapes=shapes, **options)


@pytest.fixture(scope="module")
def engine(source: Path, target: str) -> infopt.Engine:
    return _optimize(source, target, "engine")


@pytest.fixture(scope="module")
def session(engine: infopt.Engine) -> infopt.Session:
    return infopt.load(engine.path)


def _inputs(n: int) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, 3, 32, 32), np.float32)


def test_it_was_compared_on_the_device(engine: infopt.Engine) -> None:
    evidence = engine.manifest.evidence
    assert evidence["equivalence"]["ran"] == f"on {engine.manifest.target}"
    assert evidence["equivalence"]["holds"]
    assert evidence["engine"] == "built for this GPU"
    assert evidence["repeats"]["times"] == 10
    assert evidence["outcome"]["layers"]


@pytest.mark.parametrize("n", [1, 4, 8])
def test_it_computes_what_was_simulated(
    engine: infopt.Engine, session: infopt.Session, n: int
) -> None:
    from infopt.backends.base import RunOptions

    backend = backend_for(TARGETS[engine.manifest.target])
    expected = backend.simulate(Path(engine.path), RunOptions())(x=_inputs(n))
    found = session(x=_inputs(n))
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


def test_the_same_inputs_give_the_same_outputs(session: infopt.Session) -> None:
    first = session(x=_inputs(3))
    for _ in range(9):
        for name, array in session(x=_inputs(3)).items():
            np.testing.assert_array_equal(array, first[name])


def test_sizes_beyond_the_profile_are_refused(session: infopt.Session) -> None:
    with pytest.raises(DataError, match=r"built for \[1, 3, 32, 32\] to \[8, 3, 32, 32\]"):
        session(x=_inputs(9))


def test_torch_tensors(session: infopt.Session) -> None:
    torch = pytest.importorskip("torch")
    outputs = session(x=torch.from_numpy(_inputs(2)))
    np.testing.assert_array_equal(outputs["z"].cpu().numpy(), session(x=_inputs(2))["z"])


@pytest.mark.parametrize("how", [{"cuda_graphs": "on"}, {"cuda_graphs": "on", "graph_cache": "1"}])
def test_captured_calls(
    engine: infopt.Engine, session: infopt.Session, how: dict[str, str]
) -> None:
    captured = infopt.load(engine.path, provider_options=how)
    assert captured.facts() == {"cuda_graphs": "one for each shape"}
    for n in (2, 2, 5, 2, 5, 8):
        expected = session(x=_inputs(n))
        for name, array in captured(x=_inputs(n)).items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", [{"contexts": "1"}, {"contexts": "3"}])
def test_calls_of_several_threads_do_not_mix(engine: infopt.Engine, how: dict[str, str]) -> None:
    session = infopt.load(engine.path, provider_options=how)
    expected = {n: session(x=_inputs(n)) for n in range(1, 7)}
    wrong: list[int] = []

    def work(n: int) -> None:
        for _ in range(25):
            found = session(x=_inputs(n))
            if not all(np.allclose(found[name], expected[n][name], atol=1e-5) for name in found):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_calls_follow_the_stream_that_torch_is_on(session: infopt.Session) -> None:
    torch = pytest.importorskip("torch")
    expected = session(x=_inputs(4))["z"]
    for stream in (torch.cuda.default_stream(), torch.cuda.Stream()):
        with torch.cuda.stream(stream):
            large = torch.randn(4096, 4096, device="cuda")
            for _ in range(20):
                large = (large @ large).clamp(-1, 1)
            x = torch.from_numpy(_inputs(4)).cuda() + 0 * large.mean()  # after all that
            found = session(x=x)["z"] * 1
        stream.synchronize()
        np.testing.assert_allclose(found.cpu(), expected, rtol=1e-5, atol=1e-5)


def test_weights_that_come_as_they_are_needed(
    source: Path, target: str, session: infopt.Session
) -> None:
    streaming = _optimize(source, target, "streaming", provider_options={"weight_streaming": "on"})
    for budget in ("0", "auto", "1MB"):
        found = infopt.load(streaming.path, provider_options={"weight_streaming_budget": budget})
        np.testing.assert_allclose(
            found(x=_inputs(4))["z"], session(x=_inputs(4))["z"], rtol=1e-4, atol=1e-5
        )
