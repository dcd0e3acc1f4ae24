"""Attention with a past computes the same as with keys and values that are concatenated."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from infopt.ir import queries
from infopt.passes import PASSES
from infopt.pipeline import Pipeline
from infopt.presets import tidying
from tests.support.models import Array, assert_same, check, parse, run

DECODER = """g (float[B,S,16] q, float[B,S,8] k, float[B,S,8] v, float[B,2,P,4] past_k,
float[B,2,P,4] past_v, MASK mask) => (float[B,S,16] y, float[B,2,T,4] present_k,
float[B,2,T,4] present_v)
<int64[4] split = {0,0,4,4}, int64[4] group = {0,0,2,4}, int64[3] whole = {0,0,16},
 int64[5] twice = {1,1,2,1,1}, int64[4] four = {0,4,-1,4}, int64[1] two = {2}, float half = {0.5}>
{
  qr = Reshape(q, split)
  kr = Reshape(k, group)
  vr = Reshape(v, group)
  qh = Transpose <perm = [0,2,1,3]> (qr)
  kh = Transpose <perm = [0,2,1,3]> (kr)
  vh = Transpose <perm = [0,2,1,3]> (vr)
  present_k = Concat <axis = 2> (past_k, kh)
  present_v = Concat <axis = 2> (past_v, vh)
  ku = Unsqueeze(present_k, two)
  ke = Expand(ku, twice)
  k4 = Reshape(ke, four)
  vu = Unsqueeze(present_v, two)
  ve = Expand(vu, twice)
  v4 = Reshape(ve, four)
  kt = Transpose <perm = [0,1,3,2]> (k4)
  s = MatMul(qh, kt)
  ss = Mul(s, half)
  ADD
  p = Softmax <axis = -1> (sm)
  a = MatMul(p, v4)
  at = Transpose <perm = [0,2,1,3]> (a)
  y = Reshape(at, whole)
}"""
NUMBERS = ("float[B,1,S,T]", "sm = Add(ss, mask)")
CONDITION = (
    "bool[B,1,S,T]",
    "ban = Constant <value_float = -inf> () sm = Where(mask, ss, ban)",
)


def _decoder(mask: tuple[str, str]) -> ir.Model:
    return parse(DECODER.replace("MASK", mask[0]).replace("ADD", mask[1]))


def _inputs(model: ir.Model, past: int, new: int) -> dict[str, Array]:
    rng = np.random.default_rng(past + new)
    sizes = {"B": 2, "S": new, "P": past, "T": past + new}
    inputs: dict[str, Array] = {}
    for value in model.graph.inputs:
        assert value.name is not None
        assert value.shape is not None
        shape = [dim if isinstance(dim, int) else sizes[str(dim)] for dim in value.shape]
        drawn = rng.normal(size=shape)
        if value.dtype == ir.DataType.BOOL:
            drawn[..., 0] = 1.0  # no row without a key: the formula knows no result for it
            inputs[value.name] = drawn > 0
        else:
            inputs[value.name] = drawn.astype(np.float32)
    return inputs


@pytest.mark.parametrize("mask", [NUMBERS, CONDITION])
@pytest.mark.parametrize("heads", [True, False])
@pytest.mark.parametrize(("past", "new"), [(0, 3), (1, 1), (5, 1), (4, 3)])
def test_prompts_and_single_tokens(mask: tuple[str, str], heads: bool, past: int, new: int) -> None:
    before = _decoder(mask)
    after = before.clone()
    steps = "fuse-attention,fuse-past" + (",fuse-heads" if heads else "")
    Pipeline((*Pipeline.parse(steps).steps, *tidying())).run(after)
    check(after)
    (node,) = [node for node in after.graph if node.op_type == "Attention"]
    assert [value and value.name for value in node.inputs[4:]] == ["past_k", "past_v"]
    assert [value.name for value in node.outputs[1:]] == ["present_k", "present_v"]
    assert ("q_num_heads" in node.attributes) is heads
    assert queries.count_operators(after)["Concat"] == 0
    inputs = _inputs(before, past, new)
    assert_same(run(before, inputs), run(after, inputs), PASSES["fuse-past"])


def test_a_place_for_the_present_stays_where_there_is_a_past() -> None:
    """ONNX Runtime 1.31 has no kernel without it; dead-code elimination must leave it there."""
    model = parse(
        """g (float[B,2,S,8] q, float[B,2,S,8] k, float[B,2,P,8] past) => (float[B,2,S,8] y)
        { y, present_k, present_v = Attention(q, k, k, , past, past) }"""
    )
    assert not PASSES["eliminate-dead-code"]().call(model).modified
    assert run(model, _inputs(model, 2, 1))[0].shape == (2, 2, 1, 8)


def test_keys_and_values_that_two_attentions_read() -> None:
    model = parse(
        """g (float[B,2,S,8] q, float[B,2,S,8] k, float[B,2,P,8] past_k, float[B,2,P,8] past_v)
        => (float[B,2,S,8] y)
        {
          present_k = Concat <axis = 2> (past_k, k)
          present_v = Concat <axis = 2> (past_v, k)
          a = Attention(q, present_k, present_v)
          y = Attention(a, present_k, present_v)
        }"""
    )
    inputs = {
        name: np.random.default_rng(0).normal(size=(2, 2, length, 8)).astype(np.float32)
        for name, length in {"q": 3, "k": 3, "past_k": 4, "past_v": 4}.items()
    }
    expected = run(model, inputs)
    assert len(PASSES["fuse-past"]().call(model).journal.changes) == 1
    assert queries.count_operators(model) == {"Attention": 2}
    assert_same(expected, run(model, inputs), PASSES["fuse-past"])
