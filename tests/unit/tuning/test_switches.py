"""One model that computes what each of several forms computes, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from infopt.backends import backend_for
from infopt.backends.base import RunOptions
from infopt.pipeline import Pipeline
from infopt.target import DEFAULT_TARGET, parse_target
from infopt.tuning.plan import Plan, copy_of, plan_of
from infopt.tuning.segments import Parts
from infopt.tuning.switches import WHICH, switched
from tests.support.calibrating import observe
from tests.support.models import Array, check, feeds, parse, run

STATIC = (
    "calibrate,equalize-layers,calibrate,"
    "quantize-static{operators=Conv+Gemm+MatMul+Add,outputs=Conv+Add},correct-bias"
)
CONVOLUTIONS = """g (float[1,3,6,6] x) => (float[1,3,6,6] y, float[1,3,6,6] z)
    <float[3,3,1,1] w = {0.5, -1, 0.25, 2, 1, 3, -2, 0.5, 0.1}, float[3] b = {0.5, -0.5, 1},
     float[3,1,3,3] d = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
                         1, -1, 1, -1, 1, -1, 1, -1, 1, 3, 0, 0, 0, 0.5, 0, 0, 0, 2},
     float low = {0}, float high = {6}>
    {
      [one] c = Conv(x, w, b)
      [clip] r = Clip(c, low, high)
      [two] e = Conv<group = 3, pads = [1, 1, 1, 1]>(r, d)
      [sum] s = Add(e, r)
      [three] y = Conv(s, w, b)
      [side] t = Sigmoid(s)
      [four] f = Conv(t, w)
      [more] z = Add(f, t)
    }"""
PRODUCTS = """g (float[N,4] x) => (float[N,4] y)
    <float[4,4] v = {0.5, -1, 0.25, 2, 1, 3, -2, 0.5, 0.1, 0.2, 0.3, 0.4, -1, -2, -3, -4},
     float[4] a = {0.1, 0.2, -0.3, 0.4}, float[4] scale = {1, 2, 1, 0.5}>
    {
      [norm] n = LayerNormalization(x, scale, a)
      [query] q = MatMul(n, v)
      [bias] qb = Add(q, a)
      [key] k = MatMul(n, v)
      [gate] g2 = Mul(qb, k)
      [out] o = MatMul(g2, v)
      [rest] y = Add(o, x)
    }"""
BRANCHES = """g (bool c, float[2,4] x) => (float[2,4] y)
    <float[4,4] v = {0.5, -1, 0.25, 2, 1, 3, -2, 0.5, 0.1, 0.2, 0.3, 0.4, -1, -2, -3, -4}>
    {
      [first] p = MatMul(x, v)
      [if] y = If (c) <
        then_branch = then () => (float[2,4] t) { [inner] t = MatMul(p, v) },
        else_branch = other () => (float[2,4] u) { [relu] u = Relu(p) }
      >
    }"""
LOOP = """g (int64 n, float[1,3,4,4] x) => (float[1,3,4,4] y)
    <float[3,3,1,1] w = {0.5, -1, 0.25, 2, 1, 3, -2, 0.5, 0.1}, bool go = {1}>
    {
      [first] p = Conv(x, w)
      [loop] y = Loop (n, go, p) <body = body (int64 i, bool c, float[1,3,4,4] s)
        => (bool d, float[1,3,4,4] u) { d = Identity(c)
          u = Relu(s) }>
    }"""
CASES = {
    "convolutions": (CONVOLUTIONS, STATIC),
    "products": (PRODUCTS, STATIC),
    "weights": (PRODUCTS, "quantize-weights{smallest=0,block=16}"),
    "gptq": (PRODUCTS, "calibrate,quantize-weights{smallest=0,block=16,algorithm=gptq}"),
    "awq": (PRODUCTS, "calibrate,quantize-weights{smallest=0,block=16,algorithm=awq}"),
    "branches": (BRANCHES, "quantize-weights{smallest=0,block=16}"),
    "loop": (LOOP, STATIC),
}
BACKEND = backend_for(parse_target(DEFAULT_TARGET))


def _prepared(name: str) -> tuple[Plan, ir.Model, Sequence[str]]:
    text, pipeline = CASES[name]
    plan = plan_of(Pipeline.parse(pipeline))
    model = parse(text)
    plan.prepare(model, observe)
    return plan, model, plan.quantize(copy_of(model))


@pytest.mark.parametrize("name", CASES)
def test_each_number_computes_what_its_form_does(name: str) -> None:
    plan, model, names = _prepared(name)
    forms = [plan.alone(model, node) for node in names]
    board = switched(model, forms)
    check(board)
    assert len(forms) >= (1 if name == "loop" else 2)
    inputs = feeds(model, 5)
    plain = run(model, inputs)
    for number, form in enumerate([model, *forms]):
        expected = run(form, inputs)
        computed = run(board, {**inputs, WHICH: np.array(number)})
        for a, b in zip(computed, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        if number:  # a form that changes nothing would show nothing
            assert any((a != b).any() for a, b in zip(expected, plain, strict=True))


def test_the_model_itself_is_left_as_it_was() -> None:
    plan, model, names = _prepared("convolutions")
    inputs = feeds(model, 5)
    before = [value.copy() for value in run(model, inputs)]
    count = len(model.graph)
    switched(model, (plan.alone(model, node) for node in names))
    assert len(model.graph) == count
    for a, b in zip(run(model, inputs), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("most", [1, 2, 3, 8])
@pytest.mark.parametrize("name", CASES)
def test_parts_compute_the_same(name: str, most: int, tmp_path: Path) -> None:
    plan, model, names = _prepared(name)
    board = switched(model, (plan.alone(model, node) for node in names))
    parts = Parts(board, model, BACKEND, tmp_path, RunOptions(optimize=False), most)
    outputs = [value.name or "" for value in model.graph.outputs]
    for seed in (3, 4):  # what was computed for one sample is not there for the next
        inputs: dict[str, Array] = feeds(model, seed)
        for number in range(len(names) + 1):
            found = parts.run(number) if number else parts.start(inputs)
            expected = run(board, {**inputs, WHICH: np.array(number)})
            assert list(found) == outputs
            for a, b in zip(found.values(), expected, strict=True):
                np.testing.assert_array_equal(a, b)


def test_what_stands_in_front_does_not_run_again(tmp_path: Path) -> None:
    plan, model, names = _prepared("convolutions")
    board = switched(model, (plan.alone(model, node) for node in names))
    parts = Parts(board, model, BACKEND, tmp_path, RunOptions(optimize=False), 3)
    assert len(parts.parts) == 3
    parts.start(feeds(model, 1))
    calls: list[int] = []
    for index, part in enumerate(parts.parts):
        part.session = _counted(part.session, calls, index)  # type: ignore[assignment]
        part.plain = _counted(part.plain, calls, -index)  # type: ignore[assignment]
    parts.run(1)
    assert list(map(abs, calls)) == [0, 1, 2]
    assert calls[-1] == -2  # nothing there has changed: it runs without switches
    calls.clear()
    parts.run(len(names))
    assert calls == [2]


def _counted(session: object, calls: list[int], index: int) -> object:
    def call(inputs: dict[str, Array]) -> object:
        calls.append(index)
        return session(inputs)  # type: ignore[operator]

    return call
