"""Equal means equal byte for byte, however large."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from infopt.passes.cleanup import deduplicate_initializers
from infopt.passes.cleanup.deduplicate_initializers import DeduplicateInitializers
from tests.support.models import parse


def _model(one: np.ndarray, other: np.ndarray) -> ir.Model:
    model = parse("""g (float[2] x) => (float[2] y) <float a = {0}, float b = {0}> {
        c = Add(x, a)
        y = Add(c, b)
    }""")
    for name, array in (("a", one), ("b", other)):
        value = model.graph.initializers[name]
        value.const_value = ir.Tensor(array, name=name)
        value.shape, value.dtype = ir.Shape(array.shape), value.const_value.dtype
    return model


BASE = np.arange(10_000, dtype=np.float32).reshape(100, 100)


@pytest.mark.parametrize("place", [None, 0, 4_321, 9_999])
def test_one_byte_makes_a_difference(place: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deduplicate_initializers, "CHUNK_BYTES", 1024)
    other = BASE.copy()
    if place is not None:
        other.reshape(-1)[place] += 1
    model = _model(BASE, other)
    assert DeduplicateInitializers().call(model).modified == (place is None)
    assert len(model.graph.initializers) == (1 if place is None else 2)


def test_views_are_compared_by_what_they_show() -> None:
    assert DeduplicateInitializers().call(_model(BASE.T, np.ascontiguousarray(BASE.T))).modified
    assert not DeduplicateInitializers().call(_model(BASE.T, BASE)).modified


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (np.float32(0.0), np.float32(-0.0), False),
        (np.float32(np.nan), np.float32(np.nan), True),
        (np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32), True),
        (np.zeros((0, 2), np.float32), np.zeros((2, 0), np.float32), False),
        (np.array([1, 2], ml_dtypes.bfloat16), np.array([1, 2], ml_dtypes.bfloat16), True),
        (np.array([1], np.int32), np.array([1], np.int64), False),
    ],
)
def test_bits_count(one: np.ndarray, other: np.ndarray, same: bool) -> None:
    assert (
        DeduplicateInitializers().call(_model(np.asarray(one), np.asarray(other))).modified == same
    )
