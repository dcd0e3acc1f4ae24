"""Folding never makes a model larger, and does not touch large weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from infopt.ir import queries
from infopt.ir.files import read_onnx, write_onnx
from infopt.passes.cleanup.fold_constants import FoldConstants
from tests.support.models import parse


def _bytes(model: ir.Model) -> int:
    return sum(
        value.const_value.nbytes
        for graph in queries.graphs(model)
        if not isinstance(graph, ir.Function)
        for value in graph.initializers.values()
        if value.const_value is not None
    )


def _with_weight(text: str, array: np.ndarray) -> ir.Model:
    """A model whose initializer ``w`` is ``array``."""
    model = parse(text)
    model.graph.initializers["w"].const_value = ir.Tensor(array, name="w")
    return model


@pytest.mark.parametrize("limit", [0, 16, 1 << 20])
def test_the_limit_bounds_what_a_fold_adds(limit: int) -> None:
    model = parse("""g (float[64] x) => (float[64] y, float[1] z)
        <float[1] w = {2.0}, int64[1] s = {64}, float[2] v = {1, 2}, float[2] u = {4, 3}>
        {
            table = Expand(w, s)
            a = Mul(x, table)
            y = Add(a, table)
            p = Add(u, v)
            q = ReduceSum(p)
            z = Sub(q, w)
        }""")
    before = _bytes(model)
    changes = FoldConstants(limit).call(model).journal.changes
    assert _bytes(model) <= before + limit * len(changes)
    if not limit:
        assert _bytes(model) <= before


def test_a_large_weight_that_is_only_moved_is_a_view() -> None:
    weight = np.zeros((1024, 1024), np.float32)
    model = _with_weight(
        """g (float[N,M] x) => (float[N,M] y) <float[1,1] w = {0}> {
            t = Transpose<perm = [1, 0]>(w)
            y = MatMul(x, t)
        }""",
        weight,
    )
    model.graph.initializers["w"].shape = ir.Shape(weight.shape)
    assert FoldConstants().call(model).modified
    (held,) = model.graph.initializers.values()
    assert held.const_value is not None
    assert np.shares_memory(weight, held.const_value.numpy())


def test_a_weight_that_two_read_is_not_doubled() -> None:
    model = parse("""g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> {
        t = Transpose(w)
        a = MatMul(x, t)
        y = Add(a, w)
    }""")
    assert not FoldConstants(limit=0).call(model).modified
    assert FoldConstants(limit=16).call(model).modified


def test_folding_leaves_one_reader_and_then_folds_more() -> None:
    model = parse("""g (float[2,2] x) => (float[2,2] y) <float[2,2] w = {1, 2, 3, 4}> {
        t = Transpose(w)
        s = ReduceSum<keepdims = 0>(w)
        a = MatMul(x, t)
        y = Add(a, s)
    }""")
    FoldConstants(limit=4).call(model)
    assert queries.count_operators(model) == {"MatMul": 1, "Add": 1}


def test_a_large_result_is_computed_where_it_is_read(tmp_path: Path) -> None:
    weight = np.arange(5 << 20, dtype=np.float32).reshape(-1, 1024)
    model = _with_weight(
        """g (float[N,M] x) => (float[N,M] y) <float[1,1] w = {0}, float two = {2.0}> {
            d = Mul(w, two)
            t = Transpose<perm = [1, 0]>(d)
            e = Neg(t)
            y = MatMul(x, e)
        }""",
        weight,
    )
    model.graph.initializers["w"].shape = ir.Shape(weight.shape)
    FoldConstants().call(model)
    assert queries.count_operators(model) == {"MatMul": 1}
    (held,) = model.graph.initializers.values()
    assert isinstance(held.const_value, ir.LazyTensor)
    np.testing.assert_array_equal(held.const_value.numpy(), -2 * weight.T)
    write_onnx(model, tmp_path)
    (written,) = read_onnx(tmp_path / "model.onnx").graph.initializers.values()
    assert written.const_value is not None
    np.testing.assert_array_equal(written.const_value.numpy(), -2 * weight.T)
