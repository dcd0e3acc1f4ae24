"""Raised and legalized models compute, up to rounding, what was there before."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from infopt.passes import PASSES
from infopt.passes.legalization.pad_products import PadProducts
from infopt.passes.rewriting import Rewrite
from tests.support import golden
from tests.support.models import assert_same, feeds, parse, run

REWRITING = {name: cls() for name, cls in PASSES.items() if issubclass(cls, Rewrite)}
# A page of its usual size would take a thousand constants.
REWRITING["pad-products"] = PadProducts(page=8, line=4, least=2)


def _scaled(array: np.ndarray, taken: bool, scale: float) -> np.ndarray:
    if array.dtype == bool:
        return np.full(array.shape, taken)
    return (array * scale).astype(array.dtype)


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("name", REWRITING)
def test_golden_cases_compute_the_same(name: str, taken: bool, scale: float) -> None:
    raised = 0
    for path in sorted((golden.ROOT / name).glob("*.txt")):
        before = parse(golden.Case.read(path).parts["model"])
        after = before.clone()
        raised += len(REWRITING[name].call(after).journal.changes)
        inputs = {key: _scaled(array, taken, scale) for key, array in feeds(before).items()}
        assert_same(run(before, inputs), run(after, inputs), type(REWRITING[name]))
    assert raised


@pytest.mark.parametrize("name", REWRITING)
def test_an_old_opset_is_refused_with_a_reason(name: str) -> None:
    path = next(
        p for p in sorted((golden.ROOT / name).glob("*.txt")) if golden.Case.read(p).matches
    )
    model = parse(golden.Case.read(path).parts["model"])
    model.graph.opset_imports[""] = REWRITING[name].min_opset - 1
    result = REWRITING[name].call(model)
    assert not result.modified
    assert any("needs opset" in refusal.reason for refusal in result.journal.refusals)


def test_a_weight_that_a_caller_may_override_is_no_constant() -> None:
    model = parse(
        """g (float[N,4] x, float[4] w) => (float[N,4] y)
        <int64[1] axes = {-1}, float eps = {0.00001}>
        {
          s = Mul(x, x)
          m = ReduceMean(s, axes)
          a = Add(m, eps)
          r = Sqrt(a)
          n = Div(x, r)
          y = Mul(n, w)
        }"""
    )
    assert PASSES["fuse-rms-normalization"]().call(model).modified
    assert [node.op_type for node in model.graph] == ["RMSNormalization", "Mul"]
    scale = next(iter(model.graph)).inputs[1]
    assert scale is not None
    assert scale.const_value is not None
    assert (ir.tensor(scale.const_value).numpy() == 1).all()
