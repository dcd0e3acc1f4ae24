"""``onnxruntime:cuda`` on a real device: ``pytest -m gpu``."""

import numpy as np
import onnx
import pytest

import infopt
from infopt.backends import backend_for
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
def engine(tmp_path_factory: pytest.TempPathFactory) -> infopt.Engine:
    reason = backend_for(TARGETS["onnxruntime:cuda"]).unavailable()
    if reason is not None:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("cuda")
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(MODEL.replace("<float[8,3,3,3] w, float[1800,120] v, ", "<"))
    for name, shape in (("w", (8, 3, 3, 3)), ("v", (1800, 120))):
        weight = rng.standard_normal(shape, np.float32) / 10
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    onnx.save(proto, directory / "model.onnx")
    # TF32 convolutions round at 1e-3; at fp32 they are asked to compute in fp32.
    options = {"use_tf32": "0"}
    return infopt.optimize(
        directory / "model.onnx",
        directory / "engine",
        target="onnxruntime:cuda",
        provider_options=options,
    )


@pytest.fixture(scope="module")
def session(engine: infopt.Engine) -> infopt.Session:
    return infopt.load(engine.path, provider_options={"use_tf32": "0"})


def test_it_was_compared_and_measured_on_the_device(engine: infopt.Engine) -> None:
    evidence = engine.manifest.evidence
    assert evidence["equivalence"]["ran"] == "on onnxruntime:cuda"
    assert evidence["equivalence"]["holds"]
    assert evidence["speed"]["subjects"]["engine"]["ratio"]["value"] > 0


def test_numpy_in_numpy_out(engine: infopt.Engine, session: infopt.Session) -> None:
    x = np.random.default_rng(1).standard_normal((4, 3, 32, 32), np.float32)
    outputs = session(x=x)
    assert outputs["z"].shape == (4, 120)
    assert isinstance(outputs["z"], np.ndarray)


def test_torch_tensors_stay_on_the_device(session: infopt.Session) -> None:
    torch = pytest.importorskip("torch")
    x = torch.randn(4, 3, 32, 32)
    there = session(x=x.cuda())
    here = session(x=x.numpy())
    assert there["z"].is_cuda
    np.testing.assert_allclose(there["z"].cpu().numpy(), here["z"], rtol=1e-4, atol=1e-5)
