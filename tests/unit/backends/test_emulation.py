import ml_dtypes
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from infopt.backends.onnxruntime.emulation import computes_in_halves, emulated
from infopt.backends.onnxruntime.opsets import at_runnable_opset
from infopt.ir import queries
from infopt.target import TARGETS
from tests.support.models import check, parse

SQUARES = """g (float[4] x) => (float[4] y) {
  h = Cast<to = %d>(x)
  s = Mul(h, h)
  r = Sqrt(s)
  y = Cast<to = 1>(r)
}"""
X = np.array([1.001, 3.3, 300.7, 1e-3], np.float32)


def _run(model: ir.Model, x: np.ndarray = X) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    data = ir.to_proto(model).SerializeToString()
    return np.asarray(ort.InferenceSession(data, options).run(None, {"x": x})[0])


@pytest.mark.parametrize(("code", "kind"), [(10, np.float16), (16, ml_dtypes.bfloat16)])
def test_each_node_rounds_its_result(code: int, kind: type) -> None:
    model = parse(SQUARES % code)
    copy = emulated(model)
    check(copy)
    assert computes_in_halves(model)
    assert not computes_in_halves(copy)
    with np.errstate(over="ignore"):
        h = X.astype(kind).astype(np.float32)
        s = (h * h).astype(kind).astype(np.float32)
        expected = np.sqrt(s).astype(kind).astype(np.float32)
    np.testing.assert_array_equal(_run(copy), expected)
    assert np.isinf(expected).any() == (code == 10)


def test_onnx_runtime_itself_hides_on_a_processor_that_float16_overflows() -> None:
    """The reason for all this; where it fails, ask whether the emulation is still needed."""
    model = parse(SQUARES % 10)
    assert np.isfinite(_run(model)).all()
    assert np.isinf(_run(emulated(model))).any()


def test_onnx_runtime_itself_does_not_run_bfloat16_on_a_processor() -> None:
    with pytest.raises(Exception, match="NOT_IMPLEMENTED"):
        _run(parse(SQUARES % 16))


def test_branches_are_emulated_and_their_results_pass_as_they_are() -> None:
    model = parse(
        """g (float[4] x) => (float[4] y) {
          h = Cast<to = 16>(x)
          n = ReduceMax<keepdims = 0>(x)
          zero = Constant<value_float = 0.0>()
          c = Greater(n, zero)
          b = If (c) <
            then_branch = then () => (bfloat16[4] t) { t = Mul(h, h) },
            else_branch = else () => (bfloat16[4] e) { e = Neg(h) }
          >
          y = Cast<to = 1>(b)
        }"""
    )
    copy = emulated(model)
    check(copy)
    squares = np.square(X.astype(ml_dtypes.bfloat16).astype(np.float32))
    np.testing.assert_array_equal(_run(copy), squares.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_a_model_of_other_types_stays_as_it_is() -> None:
    model = parse("g (float[4] x) => (float[4] y) { y = Neg(x) }")
    assert not computes_in_halves(model)


def test_an_engine_has_an_opset_that_knows_its_types() -> None:
    text = """g (%s[1,1,4,4] x, %s[1,1,2,2] w) => (%s[1,1,3,3] y) { y = Conv(x, w) }"""
    target = TARGETS["onnxruntime:cuda"]
    for kind, opset in (("float16", 20), ("bfloat16", 23)):
        model = at_runnable_opset(parse(text % (kind, kind, kind)), target)
        assert model.graph.opset_imports[""] == opset
        assert queries.count_nodes(model) == 1
