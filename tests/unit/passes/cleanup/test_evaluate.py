"""What infopt folds is what ONNX Runtime computes, also where numpy would do something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from infopt.passes.cleanup._evaluate import CannotEvaluateError, evaluate
from tests.support.models import Array, assert_same, parse, run

TYPES = {
    "float": np.float32,
    "float16": np.float16,
    "double": np.float64,
    "int64": np.int64,
    "int32": np.int32,
    "int8": np.int8,
    "uint8": np.uint8,
    "bool": np.bool_,
}


def _one(text: str) -> ir.Node:
    return parse(text).graph[0]


def _both(text: str, *arrays: Array) -> tuple[list[Array], list[Array]]:
    """The outputs of a model of one node: from ONNX Runtime, and from infopt."""
    model = parse(text)
    inputs = {str(v.name): x for v, x in zip(model.graph.inputs, arrays, strict=True)}
    return run(model, inputs), evaluate(model.graph[0], arrays, 24, 10**6)


@pytest.mark.parametrize("kind", ["int64", "int32", "int8", "uint8"])
def test_integer_division_goes_towards_zero(kind: str) -> None:
    a: npt.NDArray[Any] = np.array([7, 6, 5, 100]).astype(TYPES[kind])
    b: npt.NDArray[Any] = np.array([2, 3, 7, 9]).astype(TYPES[kind])
    if kind != "uint8":
        a, b = np.concatenate([a, -a, a, -a]), np.concatenate([b, b, -b, -b])
    text = f"g ({kind}[K] a, {kind}[K] b) => ({kind}[K] y) {{ y = Div(a, b) }}"
    assert_same(*_both(text, a, b))


@pytest.mark.parametrize("b", [0, -1])
def test_what_division_leaves_open_is_not_folded(b: int) -> None:
    node = _one("g (int32[1] a, int32[1] b) => (int32[1] y) { y = Div(a, b) }")
    low = np.array([np.iinfo(np.int32).min], np.int32)
    with pytest.raises(CannotEvaluateError, match=r"zero|overflow"):
        evaluate(node, [low, np.array([b], np.int32)], 24, 10)


@pytest.mark.parametrize("to", ["int8", "uint8", "int32", "int64", "bool", "float16", "double"])
@pytest.mark.parametrize("kind", ["float", "float16", "double", "int32", "bool"])
def test_casts(kind: str, to: str) -> None:
    values = np.array([0.0, 1.0, 2.5, 3.5, 100.7, 0.4])
    if kind != "bool" and to != "uint8":
        values = np.concatenate([values, -values])
    number = int(ir.DataType["FLOAT" if to == "float" else to.upper()])
    text = f"g ({kind}[K] x) => ({to}[K] y) {{ y = Cast<to = {number}>(x) }}"
    assert_same(*_both(text, values.astype(TYPES[kind])))


@pytest.mark.parametrize("value", [np.nan, np.inf, 128.0, -129.0, 1e30])
def test_a_cast_out_of_range_is_not_folded(value: float) -> None:
    node = _one("g (float[1] x) => (int8[1] y) { y = Cast<to = 3>(x) }")
    with pytest.raises(CannotEvaluateError, match="outside of int8"):
        evaluate(node, [np.array([value], np.float32)], 24, 10)


def test_wrapping_and_overflow_of_casts() -> None:
    wrap = "g (int32[K] x) => (int8[K] y) { y = Cast<to = 3>(x) }"
    assert_same(*_both(wrap, np.array([127, 128, 255, 256, -129], np.int32)))
    overflow = "g (float[K] x) => (float16[K] y) { y = Cast<to = 10>(x) }"
    assert_same(*_both(overflow, np.array([65504, 65519, 65520, 1e6, 1e-8], np.float32)))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
def test_half_precision_arithmetic_is_exact(op: str) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=1000).astype(np.float16) for _ in range(2))
    text = f"g (float16[K] a, float16[K] b) => (float16[K] y) {{ y = {op}(a, b) }}"
    assert_same(*_both(text, a, b))


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [(0, 2, 1), (-3, 9, 1), (5, 1, -2), (-1, -99, -1), (99, -99, -3), (4, 4, 1), (3, 0, -1)],
)
def test_slices(start: int, end: int, step: int) -> None:
    text = """g (float[6,2] x, int64[1] s, int64[1] e, int64[1] a, int64[1] t) => (float[p,q] y)
        { y = Slice(x, s, e, a, t) }"""
    arrays = [np.array([number]) for number in (start, end, 0, step)]
    assert_same(*_both(text, np.arange(12, dtype=np.float32).reshape(6, 2), *arrays))


@pytest.mark.parametrize("index", [np.array(-1), np.array([[0, 2], [-3, 1]])])
@pytest.mark.parametrize("axis", [0, 1])
def test_gather(index: Array, axis: int) -> None:
    shape = ",".join(map(str, index.shape))
    kind = f"int64[{shape}]" if shape else "int64"
    result = f"float[{','.join('abcd'[: 1 + index.ndim])}]"
    text = f"g (float[3,3] x, {kind} i) => ({result} y) {{ y = Gather<axis = {axis}>(x, i) }}"
    assert_same(*_both(text, np.arange(9, dtype=np.float32).reshape(3, 3), index))


def test_an_index_out_of_range_is_not_folded() -> None:
    node = _one("g (float[3] x, int64 i) => (float y) { y = Gather(x, i) }")
    with pytest.raises(CannotEvaluateError, match="outside of the axis"):
        evaluate(node, [np.zeros(3, np.float32), np.array(3)], 24, 10)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[3] x, int64[1] s) => (float[K] y) { y = Expand(x, s) }",
        "g (float[3] x, int64[1] s) => (float[K] y) { y = Tile(x, s) }",
        "g (int64[1] x, int64[1] s) => (float[K] y) { y = ConstantOfShape(s) }",
    ],
)
def test_a_result_too_large_is_never_made(text: str) -> None:
    model = parse(text)
    x = np.ones(1 if "ConstantOf" in text else 3, np.float32)
    x = x[:1] if "Expand" in text else x
    many = np.array([10**12])
    arrays = [many] if "ConstantOf" in text else [x, many]
    with pytest.raises(CannotEvaluateError, match="would have"):
        evaluate(model.graph[0], arrays, 24, 10**6)


@pytest.mark.parametrize(
    ("op", "result"), [("Transpose", "a,b,c"), ("Flatten", "a,b"), ("Identity", "a,b,c")]
)
def test_moving_data_copies_nothing(op: str, result: str) -> None:
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    node = _one(f"g (float[2,3,4] x) => (float[{result}] y) {{ y = {op}(x) }}")
    (y,) = evaluate(node, [x], 24, 10**6)
    assert np.shares_memory(x, y)


def test_strings_are_left_to_the_runtime() -> None:
    node = _one("g (string[2] x) => (string[2] y) { y = Identity(x) }")
    with pytest.raises(CannotEvaluateError, match="strings"):
        evaluate(node, [np.array(["a", "b"], object)], 24, 10)


def test_operators_unknown_here_are_named() -> None:
    node = _one("g (float[1,1,4,4] x) => (float[1,1,1,1] y) { y = GlobalAveragePool(x) }")
    with pytest.raises(CannotEvaluateError, match="GlobalAveragePool"):
        evaluate(node, [np.zeros((1, 1, 4, 4), np.float32)], 24, 100)
