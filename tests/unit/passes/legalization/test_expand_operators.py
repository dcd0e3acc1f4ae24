"""Operators that are taken apart compute what their kernels do."""

from __future__ import annotations

import numpy as np
import pytest

from infopt.ir import queries
from infopt.passes import PASSES
from tests.support.models import assert_same, check, parse, run

SHAPES = {"q": (2, 3, 16), "k": (2, 3, 8), "past": (2, 2, 5, 4), "mask": (2, 1, 3, 3)}
WHOLE = "<q_num_heads = 4, kv_num_heads = 2>"
FORMS = {
    "grouped": f"y = Attention {WHOLE} (q, k, k)",
    "masked": f"y = Attention {WHOLE} (q, k, k, mask)",
    "causal": "y = Attention <q_num_heads = 4, kv_num_heads = 2, is_causal = 1> (q, k, k)",
    "with a past": f"y, present, values = Attention {WHOLE} (q, k, k, , past, past)",
}


@pytest.mark.parametrize("name", FORMS)
def test_attention(name: str) -> None:
    outputs = "float[B,S,16] y"
    if "present" in FORMS[name]:
        outputs += ", float[B,2,T,4] present, float[B,2,T,4] values"
    model = parse(
        f"""g (float[B,S,16] q, float[B,S,8] k, float[B,2,P,4] past, float[B,1,S,S] mask)
        => ({outputs}) {{ {FORMS[name]} }}"""
    )
    rng = np.random.default_rng(0)
    inputs = {key: rng.normal(size=shape).astype(np.float32) for key, shape in SHAPES.items()}
    expected = run(model, inputs)
    a_pass = PASSES["expand-operators"](operators="Attention")  # type: ignore[call-arg]
    assert a_pass.call(model).modified
    check(model)
    assert "Attention" not in queries.count_operators(model)
    assert_same(expected, run(model, inputs), a_pass)
