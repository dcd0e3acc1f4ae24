from pathlib import Path

import numpy as np
import onnx
import pytest

import infopt
from infopt.backends.base import RunOptions, Session
from infopt.backends.onnxruntime.session import OrtSession
from infopt.errors import CompileError, DataError, UnavailableError, UsageError

TEXT = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[n,4] x, int64[n] k) => (float[n,4] y, int64[n] j)
{
   y = Relu (x)
   j = Neg (k)
}
"""


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    path = tmp_path_factory.mktemp("session")
    onnx.save(onnx.parser.parse_model(TEXT), path / "m.onnx")
    infopt.optimize(path / "m.onnx", path / "e", measure=False)
    return infopt.load(path / "e", threads=1)


X = np.array([[1, -2, 3, -4]], np.float32)
K = np.array([5])


def test_keywords_or_a_dictionary(session: Session) -> None:
    outputs = session(x=X, k=K)
    assert list(outputs) == ["y", "j"]
    np.testing.assert_array_equal(outputs["y"], [[1, 0, 3, 0]])
    np.testing.assert_array_equal(session({"x": X, "k": K})["j"], [-5])
    np.testing.assert_array_equal(session({"x": X}, k=K)["j"], [-5])


def test_what_numpy_makes_an_array_of_is_taken(session: Session) -> None:
    class Wrapped:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            return X

    for x in (Wrapped(), np.ma.masked_array(X), np.repeat(X, 2, 1)[:, ::2]):
        outputs = session(x=x, k=[5])
        np.testing.assert_array_equal(outputs["y"], [[1, 0, 3, 0]])
        assert outputs["j"].tolist() == [-5]


def test_torch_in_torch_out(session: Session) -> None:
    torch = pytest.importorskip("torch")
    outputs = session(x=torch.from_numpy(X).requires_grad_(), k=torch.from_numpy(K))
    assert isinstance(outputs["y"], torch.Tensor)
    assert outputs["y"].tolist() == [[1, 0, 3, 0]]


def test_specifications(session: Session) -> None:
    assert [(s.name, s.dtype, s.shape) for s in session.inputs] == [
        ("x", "float", ("n", 4)),
        ("k", "int64", ("n",)),
    ]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"x": X}, "input 'k' is missing; the inputs are x, k"),
        ({"x": X, "k": K, "z": K}, "there is no input 'z'"),
        ({"x": X.astype(np.float64), "k": K}, r"is float64, but the model takes float32"),
        ({"x": X.astype(">f4"), "k": K}, r"is >f4, but the model takes float32"),
        ({"x": X.tolist(), "k": K}, r"is float64, but the model takes float32"),
        ({"x": X[0], "k": K}, r"has shape \[4\], but the model takes rank 2"),
        ({"x": np.zeros((1, 5), np.float32), "k": K}, "cannot run on these inputs"),
        (
            {"x": np.zeros((3, 4), np.float32), "k": K},
            r"'x' \[3, 4\] and 'k' \[1\] must have the same 'n'",
        ),
    ],
)
def test_what_does_not_fit_is_named(
    session: Session, inputs: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        session(inputs)


def test_an_operator_that_the_runtime_lacks_is_named(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 18, "my.own" : 1]>
    g (float[2] x) => (float[2] y) { y = my.own.Magic (x) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    with pytest.raises(CompileError, match="Magic"):
        infopt.optimize(tmp_path / "m.onnx", tmp_path / "e")


def test_operators_without_a_kernel_at_our_opset_still_run(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 16]>
    g (float[1,2,8,8] x, float[n,4] rois, int64[n] b) => (float[n,2,2,2] y) {
      y = RoiAlign <output_height = 2, output_width = 2> (x, rois, b)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    rng = np.random.default_rng(0)
    data = [
        {
            "x": rng.random((1, 2, 8, 8), np.float32),
            "rois": np.array([[0, 0, 4, 4]], np.float32),
            "b": np.array([0]),
        }
    ]
    infopt.optimize(tmp_path / "m.onnx", tmp_path / "e", data=data, measure=False)
    assert onnx.load(tmp_path / "e" / "model.onnx").opset_import[0].version == 21


def test_a_missing_runtime_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import sys

    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match=r'pip install "infopt\[cpu\]"') as caught:
        infopt.optimize(tmp_path / "m.onnx", tmp_path / "e")
    assert "\n" not in str(caught.value)
    infopt.optimize(tmp_path / "m.onnx", tmp_path / "e", verify=False)


def test_a_run_that_never_ends_is_given_up(tmp_path: Path) -> None:
    text = """
    <ir_version: 8, opset_import: ["" : 18]>
    g () => (int64 y) {
       trips = Constant <value = int64 {4611686018427387904}> ()
       go = Constant <value = bool {1}> ()
       y = Loop (trips, go, trips) <
         body = b (int64 i, bool c, int64 s) => (bool d, int64 t) {
           d = Identity (c)
           t = Add (s, i)
         }
       >
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    session = OrtSession(
        tmp_path / "m.onnx", "CPUExecutionProvider", RunOptions(threads=1, time_limit=0.2)
    )
    with pytest.raises(UsageError, match=r"has not finished after 0\.2 s"):
        session()


def test_a_run_that_ends_in_time_is_left_alone(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "m.onnx")
    options = RunOptions(threads=1, time_limit=60)
    session = OrtSession(tmp_path / "m.onnx", "CPUExecutionProvider", options)
    np.testing.assert_array_equal(session(x=X, k=K)["j"], [-5])
