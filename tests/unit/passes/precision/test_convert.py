import copy
import itertools
from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from infopt.backends.onnxruntime.emulation import emulated
from infopt.ir import queries
from infopt.passes.precision._convert import Convert
from infopt.passes.precision.convert_bfloat16 import ConvertBfloat16
from infopt.passes.precision.convert_float16 import ConvertFloat16
from infopt.pipeline import Calibrate, PassRun, Pipeline
from tests.support import golden
from tests.support.calibrating import observe
from tests.support.models import Array, check, feeds, parse, run

both = pytest.mark.parametrize("a_pass", [ConvertFloat16(), ConvertBfloat16()], ids=str)

WEIGHTS = """g (float[N,4] x) => (float[N,4] y)
<float[4] w = {1000000.0, 1.0, 2.0, 3.0}, float[4] v = {0.0001, 1.0, 1.0, 1.0}>
{
  [first] a = Mul(x, v)
  [large] b = Mul(a, w)
  [last] y = Tanh(b)
}"""
ACTIVATIONS = """g (float[N,4] x) => (float[N,4] y)
<float[4] w = {300.0, 300.0, 300.0, 300.0}, float down = {0.00001}>
{
  [up] a = Mul(x, w)
  [up2] b = Mul(a, w)
  [up3] c = Abs(b)
  [down] d = Mul(c, down)
  [last] y = Tanh(d)
}"""


def _convert(model: ir.Model, a_pass: Convert, *, calibrated: bool = True) -> PassRun:
    steps = (Calibrate(), a_pass) if calibrated else (a_pass,)
    (found,) = Pipeline(steps).run(model, observe=observe)
    check(model)
    return found


def _computed(model: ir.Model, inputs: Mapping[str, Array]) -> list[np.ndarray]:
    return [array.astype(np.float64) for array in run(model, inputs)]


def _error(before: ir.Model, after: ir.Model) -> float:
    """The largest relative error of an output, on other inputs than those observed."""
    worst = 0.0
    for seed in (100, 101):
        inputs = feeds(before, seed)
        for a, b in zip(_computed(before, inputs), _computed(after, inputs), strict=True):
            worst = max(worst, float(np.abs(a - b).max() / np.abs(a).max()))
    return worst


def _refused(found: PassRun) -> dict[str, str]:
    return {refusal.node: refusal.reason for refusal in found.refusals}


def test_weights_out_of_range_stay_and_the_rest_does_not() -> None:
    before, after = parse(WEIGHTS), parse(WEIGHTS)
    found = _convert(after, ConvertFloat16())
    assert "its constant 'w' reaches 1e+06" in _refused(found)["large"]
    assert [change.node for change in found.changes] == ["first", "last"]
    assert _error(before, after) < 2**-9


def test_onnx_runtimes_own_converter_changes_such_weights_without_a_word() -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    before = parse(WEIGHTS)
    theirs = convert_float_to_float16(copy.deepcopy(ir.to_proto(before)), keep_io_types=True)
    (weights,) = [w for w in theirs.graph.initializer if w.name == "w"]
    changed = onnx.numpy_helper.to_array(weights)
    assert changed.dtype == np.float16
    assert float(changed[0]) < 65505  # where it was 1e6

    ours = parse(WEIGHTS)
    _convert(ours, ConvertFloat16(), calibrated=False)
    kept = [queries.constant(node.inputs[1]) for node in ours.graph if node.name == "large"]
    assert kept[0] is not None
    assert kept[0].dtype == np.float32
    assert kept[0][0] == 1e6


def test_values_out_of_range_stay_where_they_were_observed() -> None:
    before, after = parse(ACTIVATIONS), parse(ACTIVATIONS)
    found = _convert(after, ConvertFloat16())
    assert [change.node for change in found.changes] == ["up", "last"]
    assert {*_refused(found)} == {"up2", "up3", "down"}
    assert "its output 'b' reaches" in _refused(found)["up2"]
    assert _error(before, after) < 2**-8


def test_without_observation_constants_alone_decide_and_the_journal_says_so() -> None:
    after = parse(ACTIVATIONS)
    found = _convert(after, ConvertFloat16(), calibrated=False)
    assert "only its constants were judged" in _refused(found)["g"]
    inside = ir.from_proto(ir.to_proto(emulated(after)))
    value = next(v for node in inside.graph for v in node.outputs if v.name == "b")
    inside.graph.outputs.append(value)
    assert np.isinf(run(inside, feeds(after, 3))[-1]).any()  # which the calibration prevents


def test_bfloat16_has_the_range() -> None:
    for text in (WEIGHTS, ACTIVATIONS):
        before, after = parse(text), parse(text)
        assert not _convert(after, ConvertBfloat16()).refusals
        assert _error(before, after) < 2**-5


ATTENTION = """g (float[N,2,3,8] q, float[N,2,3,8] k, float[N,2,3,8] v, bool[N,1,3,3] keep)
    => (float[N,2,3,8] y, float[N,2,3,8] z)
<float zero = {0.0}, float never = {%s}>
{
  one = Where(keep, zero, never)
  two = Add(one, one)
  m = Where(keep, zero, one)
  y = Attention(q, k, v, m)
  t = Transpose<perm = [0, 1, 3, 2]>(k)
  s = MatMul(q, t)
  a = Add(s, %s)
  p = Softmax(a)
  z = MatMul(p, v)
}"""


@both
@pytest.mark.parametrize("calibrated", [True, False])
@pytest.mark.parametrize("banned", ["one", "two"])
def test_a_row_of_which_all_is_masked_stays_a_row_of_numbers(
    a_pass: Convert, calibrated: bool, banned: str
) -> None:
    before = parse(ATTENTION % ("-1.7014117e38", banned))
    after = before.clone()
    found = _convert(after, a_pass, calibrated=calibrated)
    assert {*_refused(found)} <= {"g", "Transpose → t"}
    inputs = feeds(before, 1)
    inputs["keep"] = np.ones((2, 1, 3, 3), bool)
    inputs["keep"][0, 0, :, 1] = inputs["keep"][1, 0, 1] = False
    first, second = _computed(before, inputs)
    for expected, computed in zip((first, second), _computed(after, inputs), strict=True):
        assert np.isfinite(computed).all()
        # Of what is banned altogether only the formula in 16 bits makes the same numbers.
        others = np.ones((2, 2, 3, 8), bool)
        others[1, :, 1] = expected is not first
        atol = 0.1 if a_pass.half.digits < 9 else 0.02
        np.testing.assert_allclose(computed[others], expected[others], atol=atol)


@both
def test_minus_infinity_stays_what_it_is(a_pass: Convert) -> None:
    text = """g (float[N,2,3,8] q, float[1,1,3,3] mask) => (float[N,2,3,8] y, float[1,1,3,3] m)
    {
      y = Attention(q, q, q, mask)
      m = Softmax(mask)
    }"""
    before, after = parse(text), parse(text)
    _convert(after, a_pass, calibrated=False)
    inputs = feeds(before)
    mask = np.zeros((1, 1, 3, 3), np.float32)
    mask[..., 0, 1:] = -3.4028235e38
    mask[..., 1, 1:] = -np.inf
    inputs["mask"] = mask
    for expected, computed in zip(_computed(before, inputs), _computed(after, inputs), strict=True):
        np.testing.assert_allclose(computed, expected, atol=0.03)
    entering = next(n for n in after.graph if n.op_type == "Where").outputs[0]
    after.graph.outputs.append(entering)
    bounded = _computed(after, inputs)[-1]
    np.testing.assert_array_equal(np.isneginf(bounded), np.isneginf(mask))
    assert bounded[0, 0, 0, 1] == a_pass.half.ban


def test_scores_out_of_range_are_not_taken_for_a_mask() -> None:
    text = """g (float[N,4,8] q, float[N,8,4] k, bool[N,1,4] keep) => (float[N,4,4] y)
    <float zero = {0.0}, float never = {-1.7014117e38}, float large = {40000.0}>
    {
      [mask] m = Where(keep, zero, never)
      [big] b = Mul(q, large)
      [scores] s = MatMul(b, k)
      [masked] a = Add(s, m)
      [weights] y = Softmax(a)
    }"""
    model = parse(text)
    refused = _refused(_convert(model, ConvertFloat16()))
    assert {*refused} == {"big", "scores", "masked", "weights"}
    assert "part of a mask" in refused["masked"]


def _casts(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if node.op_type == "Cast"]


@both
@pytest.mark.parametrize(
    "path", sorted((golden.ROOT / "convert-float16").glob("*.txt")), ids=lambda path: path.stem
)
def test_casts_are_few(a_pass: Convert, path: object) -> None:
    """One for each value and type, none behind another, none that nobody reads."""
    model = parse(golden.Case.read(path).parts["model"])  # type: ignore[arg-type]
    before = {node.name for node in _casts(model)}
    _convert(model, a_pass, calibrated=False)
    added = [node for node in _casts(model) if node.name not in before]
    keys = [(node.inputs[0], node.attributes["to"].value) for node in added]
    assert len(set(keys)) == len(keys)
    for node in added:
        source = node.inputs[0]
        assert source is not None
        assert source.producer() not in added
        assert node.outputs[0].uses() or node.outputs[0].is_graph_output()


@both
def test_stopping_anywhere_leaves_a_model_that_computes_the_same(a_pass: Convert) -> None:
    path = golden.ROOT / "convert-float16" / "layer.txt"
    source = parse(golden.Case.read(path).parts["model"])
    total = len(a_pass.call(source.clone()).journal.changes)
    for limit in range(total + 1):
        model = source.clone()
        a_pass.call(model, limit)
        check(model)
        assert _error(source, model) <= 4 * (limit + 1) * a_pass.rounding


def test_inputs_and_outputs_keep_names_and_types_unless_asked() -> None:
    text = "g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Mul(x, w) }"
    for a_pass, kind in (
        (ConvertFloat16(), ir.DataType.FLOAT),
        (ConvertFloat16(boundary=True), ir.DataType.FLOAT16),
        (ConvertBfloat16(boundary=True), ir.DataType.BFLOAT16),
    ):
        model = parse(text)
        _convert(model, a_pass)
        assert [value.dtype for value in model.graph.inputs] == [kind]
        assert [value.dtype for value in model.graph.outputs] == [kind]
        assert [value.name for value in (*model.graph.inputs, *model.graph.outputs)] == ["x", "y"]
        assert bool(_casts(model)) == (kind == ir.DataType.FLOAT)


def test_weights_that_both_types_read_are_there_in_both_and_others_once() -> None:
    model = parse(
        """g (float[N,4] x) => (float[N,4] y, float[N,4] z)
        <float[4] w = {1, 2, 3, 4}, float big = {1000000.0}>
        {
          a = Mul(x, w)
          y = Add(a, w)
          b = Mul(w, big)
          z = Add(x, b)
        }"""
    )
    _convert(model, ConvertFloat16(), calibrated=False)
    assert sorted(model.graph.initializers) == ["big", "w", "w_float16"]


def test_a_function_is_left_to_inlining() -> None:
    model = parse(
        """<ir_version: 11, opset_import: ["" : 24, "local" : 1]>
        g (float[2] x) => (float[2] y) { [call] y = local.Twice(x) }
        <domain: "local", opset_import: ["" : 24]>
        Twice (v) => (w) { w = Add(v, v) }"""
    )
    found = _convert(model, ConvertFloat16(), calibrated=False)
    assert not found.changes
    assert "inline-functions" in _refused(found)["call"]


def test_what_is_unknown_stays() -> None:
    model = parse(
        """<ir_version: 11, opset_import: ["" : 24, "somewhere" : 1]>
        g (float[2] x) => (float[2] y) { [odd] o = somewhere.Odd(x) [last] y = Neg(o) }"""
    )
    next(iter(model.graph)).outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    (found,) = Pipeline((ConvertFloat16(),)).run(model)
    assert "no schema" in _refused(found)["odd"]
    assert [change.node for change in found.changes] == ["last"]


def test_what_it_wants_to_know_is_in_the_graph_and_no_constant() -> None:
    model = parse(WEIGHTS)
    asked = {request.value for request in ConvertFloat16().observes(model)}
    assert asked == {"x", "a", "b", "y"}
    pairs = itertools.product(asked, model.graph.initializers)
    assert all(one != other for one, other in pairs)
