"""Channels that stand out move into the weights: exactly, once, and so that integers gain."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
import pytest

from infopt.backends import backend_for
from infopt.errors import QuantizationError
from infopt.ir import queries
from infopt.passes.quantization.smooth_quant import SmoothQuant
from infopt.pipeline import PassRun, Pipeline, Stop
from infopt.presets import preset
from infopt.target import parse_target
from tests.support.calibrating import observe, observe_on
from tests.support.models import check, feeds, run
from tests.support.weighted import SQUARE, K, build, noise

ATTENTION = """
    one = Constant <value_ints = [0]> () flat = Constant <value_ints = [16, 64]> ()
    z = Unsqueeze(x, one) u = RMSNormalization <axis = -1> (z, g)
    q = MatMul(u, wq) k = MatMul(u, wk) v = MatMul(u, wv) vb = Add(v, b)
    a = Attention <q_num_heads = 4, kv_num_heads = 4> (q, k, vb)
    r = Reshape(a, flat) h = Gemm <transB = 1> (r, wo, b) t = Relu(h) y = MatMul(t, wu)
"""
WEIGHTS = {"g": (K,), "b": (K,), **dict.fromkeys(("wq", "wk", "wv", "wo", "wu"), SQUARE)}
RESIDUAL = "n = RMSNormalization <axis = -1> (x, g) m = MatMul(n, w) y = Add(m, n)"


def ran(model: ir.Model, spec: str) -> list[PassRun]:
    found = Pipeline.parse(spec).run(model, observe=observe)
    check(model)
    return found


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize(
    ("body", "shapes", "groups"),
    [
        pytest.param(ATTENTION, WEIGHTS, 3, id="attention"),
        pytest.param(RESIDUAL, {"g": (K,), "w": SQUARE}, 1, id="residual"),
        pytest.param("y = MatMul(x, w)", {"w": SQUARE}, 1, id="input"),
        pytest.param(
            "s = Sigmoid(x) h = MatMul(x, w) m = Mul(s, h) y = Gemm(m, v)",
            {"w": SQUARE, "v": SQUARE},
            2,
            id="gate",
        ),
    ],
)
def test_it_computes_the_same_and_does_it_once(
    body: str, shapes: Mapping[str, tuple[int, ...]], groups: int, alpha: float
) -> None:
    model = build(body, shapes)
    other = model.clone()
    spec = f"smooth-quant{{alpha={alpha},multiply=true,worth=inf,rows=0}}"
    (first,) = ran(other, f"calibrate,{spec}")
    assert len(first.changes) == groups
    assert noise(model, other) < 1e-11
    # By what is observed now there is nothing to do; by what was observed before, neither.
    for again in (f"calibrate,{spec}", spec):
        assert not ran(other, again)[0].changes


def test_what_is_divided_is_what_was_asked_for() -> None:
    model = build(
        "n = RMSNormalization <axis = -1> (x, g) y = MatMul(n, w)", WEIGHTS | {"w": SQUARE}
    )
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    ran(model, "calibrate,smooth-quant{alpha=1.0,worth=inf,rows=0}")
    normalization, product = model.graph
    gain, weights = (queries.constant(node.inputs[1]) for node in (normalization, product))
    assert gain is not None
    assert weights is not None
    factors = _array(before["g"]) / gain
    np.testing.assert_allclose(weights, _array(before["w"]) * factors[:, None], rtol=1e-6)
    wanted = [np.abs(run(_until_n(model.clone()), feeds(model, seed))[0]) for seed in range(8)]
    np.testing.assert_allclose(np.max(wanted, axis=(0, 1)), 1, rtol=1e-5)


def _until_n(model: ir.Model) -> ir.Model:
    """What the product reads, as the output."""
    model.graph.outputs[0] = next(iter(model.graph)).outputs[0]
    return model


def _array(tensor: ir.TensorProtocol | None) -> np.ndarray:
    assert tensor is not None
    return tensor.numpy()


def test_integers_gain_where_channels_stand_out() -> None:
    model = build(ATTENTION, WEIGHTS)
    _stand_out(model)
    plain, smooth = model.clone(), model.clone()
    quantize = "calibrate,quantize-static{method=min-max}"
    ran(plain, quantize)
    ran(smooth, f"calibrate,smooth-quant{{rows=0}},{quantize}")
    assert noise(model, smooth) < 0.01 * noise(model, plain)


def _stand_out(model: ir.Model) -> None:
    """Make some channels of a normalization a hundred times as large, and their weights small."""
    for name, factor in (("g", 100.0), ("wq", 0.01), ("wk", 0.01), ("wv", 0.01)):
        array = _array(model.graph.initializers[name].const_value).copy()
        array[::16] *= factor
        model.graph.initializers[name].const_value = ir.Tensor(array, name=name)


@pytest.mark.parametrize(
    ("body", "shapes", "reason"),
    [
        (RESIDUAL, {"g": (K,), "w": SQUARE}, "'n' cannot be divided: Add '' reads it, too"),
        ("y = MatMul(x, w)", {"w": SQUARE}, "'x' cannot be divided: it comes from, or goes, where"),
        ("s = Sigmoid(x) y = MatMul(s, w)", {"w": SQUARE}, "comes from Sigmoid '', which cannot"),
    ],
)
def test_where_nothing_can_be_divided(
    body: str, shapes: Mapping[str, tuple[int, ...]], reason: str
) -> None:
    (found,) = ran(build(body, shapes), "calibrate,smooth-quant{worth=inf,rows=0}")
    assert not found.changes
    assert any(reason in refusal.reason for refusal in found.refusals), found.refusals


def test_a_reader_that_is_no_product_of_constants_is_named() -> None:
    body = """
        n = RMSNormalization <axis = -1> (x, g) m = MatMul(n, w)
        turned = Transpose(n) p = MatMul(m, turned) y = MatMul(p, n)
    """
    model = build(body, {"g": (K,), "w": SQUARE})
    (found,) = ran(model, "calibrate,smooth-quant{worth=inf,rows=0}")
    assert [(r.node, r.reason) for r in found.refusals] == [
        ("MatMul → p", "it multiplies two activations"),
        ("MatMul → y", "it multiplies two activations"),
        ("MatMul → m", "'n' cannot be divided: Transpose '' reads it, too"),
    ]


@pytest.mark.parametrize("number", [np.inf, np.nan])
def test_what_is_not_finite_stays(number: float) -> None:
    model = build(
        "n = RMSNormalization <axis = -1> (x, g) y = MatMul(n, w)", WEIGHTS | {"w": SQUARE}
    )
    inputs = feeds(model)
    inputs["x"][3, 5] = number
    a_pass = SmoothQuant(rows=0)
    pipeline = Pipeline.parse("calibrate,smooth-quant{rows=0}")
    (found,) = pipeline.run(model, observe=lambda seen, asked: observe_on(seen, asked, [inputs]))
    assert [r.reason for r in found.refusals] == [
        "'n' was infinite or not a number during calibration"
    ]
    array = _array(model.graph.initializers["w"].const_value).copy()
    array[3, 5] = number
    model.graph.initializers["w"].const_value = ir.Tensor(array, name="w")
    Pipeline.parse("calibrate,smooth-quant{rows=0}").run(model, observe=observe)
    assert [r.reason for r in a_pass.call(model).journal.refusals] == [
        "its weights are not all finite"
    ]


def test_a_limit_stops_between_groups() -> None:
    model = build(ATTENTION, WEIGHTS)
    for limit in range(4):
        other = model.clone()
        Pipeline.parse("calibrate,smooth-quant{worth=inf,rows=0}").run(
            other, observe=observe, stop=None if limit == 3 else Stop(0, limit)
        )
        check(other)
        assert noise(model, other) < 1e-11


def test_alpha_is_checked_and_part_of_the_scheme() -> None:
    with pytest.raises(QuantizationError, match=r"alpha lies within \[0, 1\], not 1.5"):
        SmoothQuant(alpha=1.5)
    cpu = backend_for(parse_target("onnxruntime:cpu"))
    assert "smooth-quant{alpha=0.7" in str(preset(cpu, "int8", scheme={"alpha": "0.7"}))


def test_a_few_rows_tell_too_little() -> None:
    model = build("y = MatMul(x, w)", {"w": SQUARE})
    for rows, reason in ((128, ""), (129, "'x' was seen in fewer than 129 rows")):
        spec = f"calibrate,smooth-quant{{multiply=true,worth=inf,rows={rows}}}"
        (found,) = ran(model.clone(), spec)
        assert [r.reason for r in found.refusals] == [reason] * bool(reason)
        assert bool(found.changes) == (not reason)
