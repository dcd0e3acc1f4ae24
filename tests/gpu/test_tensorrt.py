"""TensorRT on a real device: ``pytest -m gpu``. It has not run yet: no GPU was at hand."""

from __future__ import annotations

from pathlib import Path

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
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> infopt.Engine:
    reason = backend_for(TARGETS[request.param]).unavailable()
    if reason is not None:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(MODEL.replace("<float[8,3,3,3] w, float[1800,120] v, ", "<"))
    for name, shape in (("w", (8, 3, 3, 3)), ("v", (1800, 120))):
        weight = rng.standard_normal(shape, np.float32) / 10
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    onnx.save(proto, directory / "model.onnx")
    return infopt.optimize(
        directory / "model.onnx",
        directory / "engine",
        target=request.param,
        shapes=["x=1..8x3x32x32@4x3x32x32"],
    )


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
