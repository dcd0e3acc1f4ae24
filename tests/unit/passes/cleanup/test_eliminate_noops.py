"""What is dropped returned its input bit for bit, also infinities, NaN and both zeros."""

from __future__ import annotations

import numpy as np
import pytest

from infopt.ir import queries
from infopt.passes.cleanup.eliminate_noops import EliminateNoops
from tests.support.models import Array, assert_same, parse, run

SPECIAL = np.array([-np.inf, np.inf, np.nan, -0.0, 0.0, 1e-45, 3.0], np.float32)
DROPPED = ["Sum(x)", "Max(x)", "Min(x)", "Mean(x)", "Mul(x, o)", "Div(x, o)", "Pow(x, o)"]
DROPPED += ["Sub(x, z)", "Add(x, m)", "Dropout(x)", "Concat<axis = 0>(x)", "Cast<to = 1>(x)"]
KEPT = ["Add(x, z)", "Sub(x, m)", "Clip(x)"]


@pytest.mark.parametrize("call", DROPPED + KEPT)
def test_special_values(call: str) -> None:
    model = parse(f"""g (float[K] x) => (float[K] y)
        <float o = {{1.0}}, float z = {{0.0}}, float m = {{-0.0}}> {{
            a = {call}
            y = Identity(a)
        }}""")
    feeds: dict[str, Array] = {"x": SPECIAL}
    expected = run(model, feeds)
    # The input cannot become the output, so an Identity remains of a chain that is dropped.
    EliminateNoops().call(model)
    assert set(queries.count_operators(model)) == (
        {"Identity"} if call in DROPPED else {call.split("(")[0]}
    )
    assert_same(expected, run(model, feeds))


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pooling_of_one_element_stays(op: str) -> None:
    model = parse(f"""g (float[1,1,K] x) => (float[1,1,K] y) {{
        a = {op}<kernel_shape = [1]>(x)
        y = Neg(a)
    }}""")
    result = EliminateNoops().call(model)
    assert not result.modified
    assert [refusal.rule for refusal in result.journal.refusals] == [f"drop-{op}"]
