from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import infopt
from infopt.backends import backend_for
from infopt.errors import DataError, UsageError
from infopt.evidence.equivalence import Sample
from infopt.layerwise.comparing import LayerComparison, between
from infopt.target import DEFAULT_TARGET, parse_target
from tests.support.models import parse
from tests.support.stacked import LAYERS, network

BACKEND = backend_for(parse_target(DEFAULT_TARGET))


def _between(candidate: ir.Model, reference: ir.Model, tolerance: float = 1e-4) -> LayerComparison:
    rng = np.random.default_rng(1)
    samples = [
        Sample({"x": rng.standard_normal((rows, 4)).astype(np.float32)}, "drawn") for rows in (2, 3)
    ]
    return between(candidate, reference, samples, backend=BACKEND, tolerance=tolerance)


@pytest.mark.parametrize("broken", range(LAYERS))
def test_the_layer_that_was_changed_is_found(broken: int) -> None:
    found = infopt.compare_layers(network(broken), network())
    assert not found.outputs.holds
    first = found.layers.first
    assert first is not None
    assert (first.node, first.layer) == (f"net/layer.{broken}/dense", f"layer.{broken}")
    assert first.difference.max_relative == pytest.approx(0.01, rel=0.02)
    assert first.difference.sqnr_db == pytest.approx(40, abs=0.1)
    assert [layer.layer for layer in found.layers.layers] == [f"layer.{n}" for n in range(LAYERS)]
    assert [layer.diverges for layer in found.layers.layers] == [n >= broken for n in range(LAYERS)]
    assert all(layer.max_relative == 0 for layer in found.layers.layers[:broken])


@pytest.mark.parametrize("broken", [0, 3, 5])
def test_in_an_engine_too(tmp_path: Path, broken: int) -> None:
    """Whose nodes are others: MatMul and Add have become one, and what passes noted tells."""
    onnx.save(network(broken), tmp_path / "broken.onnx")
    onnx.save(network(), tmp_path / "right.onnx")
    infopt.optimize(tmp_path / "broken.onnx", tmp_path / "e", measure=False)
    found = infopt.compare_layers(tmp_path / "e", tmp_path / "right.onnx")
    assert found.layers.first is not None
    assert found.layers.first.layer == f"layer.{broken}"
    right = infopt.compare_layers(tmp_path / "e", tmp_path / "broken.onnx")
    assert right.layers.first is None
    assert right.outputs.holds
    assert len(right.layers.tensors) >= 2 * LAYERS


def test_the_tolerance_decides() -> None:
    assert infopt.compare_layers(network(2), network(), tolerance=0.05).layers.first is None


def test_errors_grow_layer_by_layer_in_int8(tmp_path: Path) -> None:
    onnx.save(network(), tmp_path / "m.onnx")
    rng = np.random.default_rng(2)
    data = [{"x": rng.standard_normal((16, 8)).astype(np.float32)} for _ in range(20)]
    infopt.optimize(tmp_path / "m.onnx", tmp_path / "e", precision="int8", data=data, measure=False)
    found = infopt.compare_layers(tmp_path / "e", tmp_path / "m.onnx", data=data[:3])
    assert found.layers.first is not None
    assert found.layers.first.layer == "layer.0"
    for layer in found.layers.layers:
        assert 15 < layer.sqnr_db < 80
    assert len(found.layers.samples) == 3


def test_nan_in_one_alone_is_infinitely_far() -> None:
    text = "g (float[N,4] x) => (float[N,4] y) { a = OP(x) y = Neg(a) }"
    found = _between(parse(text.replace("OP", "Sqrt")), parse(text.replace("OP", "Abs")))
    assert found.first is not None
    assert found.first.value == "a"
    assert found.first.difference.max_relative == float("inf")


def test_what_is_scaled_and_scaled_back_is_absorbed() -> None:
    reference = parse("""g (float[N,4] x) => (float[N,4] y)
    <float[4] two = {2, 2, 2, 2}, float[4] half = {0.5, 0.5, 0.5, 0.5}>
    { a = Neg(x) b = Relu(a) c = Mul(b, two) d = Mul(c, half) y = Neg(d) }""")
    candidate = parse("""g (float[N,4] x) => (float[N,4] y)
    <float[4] two = {4, 4, 4, 4}, float[4] half = {0.25, 0.25, 0.25, 0.25}>
    { a = Neg(x) b = Relu(a) c = Mul(b, two) d = Mul(c, half) y = Neg(d) }""")
    found = _between(candidate, reference)
    assert found.first is None
    assert [tensor.value for tensor in found.tensors if tensor.absorbed] == ["c"]
    assert found.layers[0].max_relative == 0


def test_an_error_behind_which_nothing_can_be_seen_is_not_absorbed() -> None:
    text = """g (float[N,4] x) => (float[N,4] y) <float[4] k = {FACTOR, 1, 1, 1}> {
        [a] a = Mul(x, k)
        [b] i = Cast<to = 7>(a)
        [c] y = Cast<to = 1>(i)
    }"""
    found = _between(parse(text.replace("FACTOR", "1")), parse(text.replace("FACTOR", "1.25")))
    assert next(tensor.value for tensor in found.tensors if tensor.diverges) == "a"


def test_only_its_shape_being_read_is_no_way_for_an_error() -> None:
    text = """g (float[N,4] x) => (float[N,4] y) <float[4] k = {FACTOR, 1, 1, 1}> {
        a = Mul(x, k)
        s = Shape(a)
        r = Reshape(x, s)
        y = Neg(r)
    }"""
    found = _between(parse(text.replace("FACTOR", "1")), parse(text.replace("FACTOR", "2")))
    assert found.first is None
    assert [tensor.value for tensor in found.tensors if tensor.absorbed] == ["a"]


def test_values_inside_loops_are_said_not_to_be_compared() -> None:
    text = """g (float[N,4] x) => (float[N,4] y) <int64 n = {3}, bool yes = {1}> {
        a = Neg(x)
        y = Loop (n, yes, a) <
            body = body (int64 i, bool go, float[N,4] v) => (bool go2, float[N,4] w) {
            go2 = Identity(go)
            w = Add(v, v)
        }>
    }"""
    found = _between(parse(text), parse(text))
    assert {tensor.value for tensor in found.tensors} == {"a", "y"}
    assert found.notes == ("values inside branches and loops were not compared",)


def test_functions_are_looked_into() -> None:
    text = """<ir_version: 11, opset_import: ["" : 24, "local" : 1]>
    g (float[N,4] x) => (float[N,4] y) { a = local.Twice(x) y = Neg(a) }
    <domain: "local", opset_import: ["" : 24]>
    Twice (v) => (w) { t = Relu(v) w = Add(t, t) }"""
    found = _between(parse(text), parse(text))
    assert len(found.tensors) == 3


def test_nothing_that_can_be_matched() -> None:
    one = parse("g (float[N,4] x) => (float[N,4] y) { y = Neg(x) }")
    other = parse(
        "g (float[N,4] x) => (float[N,2] z) <int64[1] s = {2}, int64[1] o = {0}, int64[1] a = {1}>"
        "{ z = Slice(x, o, s, a) }"
    )
    with pytest.raises(UsageError, match="nothing inside these models can be matched"):
        _between(one, other)


def test_other_inputs_are_an_error() -> None:
    other = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 18]>g (float[n,8] z) => (float[n,8] y) { y = Relu(z) }'
    )
    with pytest.raises(DataError):
        infopt.compare_layers(other, network())


def test_the_dictionary_has_all_of_it() -> None:
    found = infopt.compare_layers(network(2), network()).as_dict()
    assert found["holds"] is False
    layers = found["per_layer"]
    assert layers["first"]["value"] == "m2"
    assert [row["layer"] for row in layers["layers"]] == [f"layer.{n}" for n in range(LAYERS)]
    assert len(layers["tensors"]) == layers["computed"] == 3 * LAYERS
