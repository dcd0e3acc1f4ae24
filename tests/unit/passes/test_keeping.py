"""Nodes that passes of lower precision leave alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infopt.errors import PipelineError
from infopt.passes.keeping import KEPT, join, split
from infopt.passes.precision.convert_float16 import ConvertFloat16
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.passes.quantization.quantize_weights import QuantizeWeights
from infopt.pipeline import Calibrate, Pipeline
from tests.support.calibrating import observe
from tests.support.models import parse

MODEL = """g (float[2,4] x) => (float[2,4] y)
    <float[4,4] v = {0.5, -1, 0.25, 2, 1, 3, -2, 0.5, 0.1, 0.2, 0.3, 0.4, -1, -2, -3, -4},
     float[4,4] w = {1, 2, 3, 4, -4, -3, -2, -1, 0.5, 0.25, 0.125, 1, 2, -2, 1, -1}>
    {
      [first] a = MatMul(x, v)
      [between] b = Relu(a)
      [second] y = MatMul(b, w)
    }"""


@given(st.lists(st.text(min_size=1), unique=True))
def test_names_come_back_whatever_is_in_them(names: list[str]) -> None:
    assert split(join(names)) == tuple(names)


@given(st.lists(st.text(min_size=1), unique=True))
def test_a_pipeline_comes_back_whatever_is_in_a_name(names: list[str]) -> None:
    pipeline = Pipeline((QuantizeStatic(keep=join(names)),))
    assert Pipeline.parse(str(pipeline)) == pipeline


def test_names_without_odd_letters_need_no_quotes() -> None:
    assert str(QuantizeStatic(keep="a.b+c_1")) == "quantize-static{keep=a.b+c_1}"
    assert str(QuantizeStatic(keep="/a/b")) == 'quantize-static{keep="/a/b"}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('quantize-static{keep="a', "unexpected '\"'"),
        ('"quantize-static"', "there is no pass"),
        ('quantize-static{keep="\\x"}', "no text as in JSON"),
        ('quantize-static{bits="4"}', "has no option 'bits'"),
    ],
)
def test_quotes_that_do_not_parse(text: str, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        Pipeline.parse(text)


@pytest.mark.parametrize(
    ("a_pass", "rule"),
    [
        (QuantizeStatic(keep="first"), "quantize-static"),
        (QuantizeWeights(keep="first", smallest=0), "quantize-weights"),
        (ConvertFloat16(keep="first"), "convert"),
    ],
    ids=lambda it: it if isinstance(it, str) else it.name,
)
def test_a_node_stays_as_it_is_and_the_journal_says_why(
    a_pass: QuantizeStatic | QuantizeWeights | ConvertFloat16, rule: str
) -> None:
    model = parse(MODEL)
    run = Pipeline((Calibrate(), a_pass)).run(model, observe=observe)[-1]
    assert [(found.node, found.reason) for found in run.refusals if found.rule == rule] == [
        ("first", KEPT)
    ]
    assert "second" in [change.node for change in run.changes]
    assert "first" not in [change.node for change in run.changes]
    node = next(node for node in model.graph if node.name == "first")
    weights = node.inputs[1]
    assert weights is not None
    assert weights.const_value is not None
    assert weights.const_value.numpy().dtype == np.float32


def test_what_is_kept_is_observed_all_the_same() -> None:
    """So that a search that keeps other nodes each time does not observe again."""
    for plain in (QuantizeStatic(), QuantizeWeights(algorithm="gptq", smallest=0)):
        kept = plain.keeping(["first"])
        assert set(kept.observes(parse(MODEL))) == set(plain.observes(parse(MODEL)))


def test_a_name_that_no_node_has() -> None:
    for kind in (QuantizeStatic, QuantizeWeights, ConvertFloat16):
        a_pass = kind(keep="frist")
        with pytest.raises(PipelineError, match="no such node; did you mean 'first'"):
            a_pass.call(parse(MODEL))


def test_more_names_join_those_that_are_there() -> None:
    a_pass = QuantizeStatic(keep="a").keeping(["b", "a+b"])
    assert split(a_pass.keep) == ("a", "b", "a+b")
    assert split(a_pass.alone("c", ["c", "d"]).keep) == ("a", "b", "a+b", "d")


def test_a_sum_that_stands_alone_is_quantized() -> None:
    text = """g (float[2,4] x, float[2,4] z) => (float[2,4] y) {
        [sum] s = Add(x, z)
        [end] y = Sigmoid(s)
    }"""
    usual = QuantizeStatic(operators="Conv+Add", outputs="Add")
    for a_pass, expected in ((usual, 0), (usual.alone("sum", ["sum", "end"]), 3)):
        model = parse(text)
        Pipeline((Calibrate(), a_pass)).run(model, observe=observe)
        assert sum(node.op_type == "QuantizeLinear" for node in model.graph) == expected
