from __future__ import annotations

import onnx_ir as ir

from infopt.layerwise.matching import match
from infopt.pipeline import Pipeline
from infopt.presets import cleanup, raising
from tests.support.models import parse

HEADS = """g (float[N,4] x) => (float[N,4] y)
    <float[4,4] q = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7},
     float[4,4] k = {2, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7},
     float[4,4] v = {3, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}>
    {
      [query] a = MatMul(x, q)
      [key] b = MatMul(x, k)
      [value] c = MatMul(x, v)
      [sum] d = Sub(a, b)
      [out] y = Mul(d, c)
    }"""


def _pairs(reference: ir.Model, candidate: ir.Model) -> dict[str | None, tuple[str | None, str]]:
    return {
        found.reference.name: (found.candidate.name, found.how)
        for found in match(reference, candidate)
    }


def _renamed(text: str, order: str = "") -> ir.Model:
    """The same model, in which nothing inside has its name; ``order`` are nodes that come first."""
    model = parse(text)
    for node in model.graph:
        if node.name in order.split():
            first = model.graph[0]
            if node is not first:
                model.graph.remove(node)
                model.graph.insert_before(first, node)
    for number, node in enumerate(model.graph):
        node.name = f"other_{number}"
        for value in node.outputs:
            if not value.is_graph_output():
                value.name = f"{value.name}_called_otherwise"
    return model


def test_names_go_first() -> None:
    assert _pairs(parse(HEADS), parse(HEADS)) == {name: (name, "name") for name in "abcdy"}


def test_structure_goes_by_weights_and_not_by_order() -> None:
    found = _pairs(parse(HEADS), _renamed(HEADS, order="value"))
    assert found == {
        **{name: (f"{name}_called_otherwise", "structure") for name in "abcd"},
        "y": ("y", "name"),
    }


def test_weights_that_differ_go_by_order() -> None:
    candidate = _renamed(HEADS.replace("{1, 2,", "{7, 2,").replace("{2, 2,", "{8, 2,"))
    found = _pairs(parse(HEADS), candidate)
    assert {name: other for name, (other, _) in found.items()} == {
        **{name: f"{name}_called_otherwise" for name in "abcd"},
        "y": "y",
    }


def test_another_attribute_is_another_operator() -> None:
    text = """g (float[N,4] x) => (float[N,4] y) {
       a = LeakyRelu<alpha = 0.1>(x)
       y = Neg(a)
    }"""
    found = _pairs(parse(text), _renamed(text.replace("0.1", "0.2")))
    assert found == {"y": ("y", "name")}


def test_another_small_constant_is_another_operator() -> None:
    text = """g (float[N,4] x) => (float[N,4] y) <float two = {2}> {
       a = Mul(x, two)
       y = Neg(a)
    }"""
    assert _pairs(parse(text), _renamed(text.replace("{2}", "{3}"))) == {"y": ("y", "name")}


def test_integers_lead_to_others_but_are_not_compared() -> None:
    text = """g (float[N,4] x) => (float[N,4] y) <int64[2] flat = {-1, 4}> {
       s = Shape(x)
       r = Reshape(x, s)
       y = Neg(r)
    }"""
    assert _pairs(parse(text), _renamed(text)) == {
        "r": ("r_called_otherwise", "structure"),
        "y": ("y", "name"),
    }


def test_what_a_pass_put_in_the_place_of_others() -> None:
    text = """g (float[N,M,4] x) => (float[N,M,4] y)
    <float half = {0.5}, float one = {1}, float root = {1.4142135},
     float[4,4] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}>
    {
      [a] a = MatMul(x, w)
      [d] d = Div(a, root)
      [e] e = Erf(d)
      [p] p = Add(e, one)
      [m] m = Mul(a, p)
      [gelu] g = Mul(m, half)
      [y] y = MatMul(g, w)
    }"""
    raised = parse(text)
    Pipeline((*cleanup(), *raising())).run(raised)
    assert "Gelu" in {node.op_type for node in raised.graph}
    for reread in (raised, ir.from_proto(ir.to_proto(raised))):
        found = _pairs(parse(text), reread)
        assert found["g"][1] == "rewritten"
        gelu = next(node for node in reread.graph if node.op_type == "Gelu")
        assert found["g"][0] == gelu.outputs[0].name
        assert "e" not in found


def test_shapes_that_hold_other_numbers_are_not_matched() -> None:
    reference = parse("g (float[2,4] x) => (float[2,4] y) { a = Relu(x) y = Neg(a) }")
    candidate = parse(
        "g (float[2,4] x) => (float[2,4] y) <int64[1] axes = {1}, int64[2] r = {1, 4}> {"
        " a = ReduceMax<keepdims = 1>(x, axes) b = Tile(a, r) y = Neg(b) }"
    )
    assert _pairs(reference, candidate) == {"y": ("y", "name")}
