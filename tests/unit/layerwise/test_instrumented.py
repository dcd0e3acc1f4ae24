from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from infopt.backends import backend_for
from infopt.backends.base import RunOptions, Session
from infopt.layerwise import instrumented
from infopt.layerwise.instrumented import Instrumented
from infopt.target import DEFAULT_TARGET, parse_target
from tests.support.models import parse

BACKEND = backend_for(parse_target(DEFAULT_TARGET))
X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


def _opened(model: ir.Model, place: Path) -> Session:
    BACKEND.compile(model, place)
    return BACKEND.simulate(place, RunOptions(optimize=False))


def _chain(length: int) -> ir.Model:
    steps = "".join(f"v{n} = Add(v{n - 1}, x)\n" for n in range(1, length))
    return parse(
        f"g (float[N,4] x) => (float[N,4] y) {{ v0 = Neg(x) {steps} y = Neg(v{length - 1}) }}"
    )


def _shown(
    model: ir.Model, names: set[str], room: Path
) -> tuple[Instrumented, dict[str, np.ndarray]]:
    shown = [value for node in model.graph for value in node.outputs if value.name in names]
    parts = Instrumented(model, shown, {"x": X}, _opened, room)
    found: dict[str, np.ndarray] = {}
    for values in parts.run({"x": X}):
        assert not set(found) & set(values)
        found.update(values)
    return parts, found


def test_values_are_those_of_the_whole(tmp_path: Path) -> None:
    names = {f"v{number}" for number in range(100)}
    parts, found = _shown(_chain(100), names | {"y"}, tmp_path)
    assert len(parts) == 4
    assert set(found) == names | {"y"}
    for number in range(100):
        np.testing.assert_allclose(found[f"v{number}"], (number - 1) * X, atol=1e-4)


def test_no_part_shows_more_than_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrumented, "MOST_BYTES", 5 * X.nbytes)
    model = _chain(20)
    shown = [value for node in model.graph for value in node.outputs]
    parts = Instrumented(model, shown, {"x": X}, _opened, tmp_path)
    sizes = [sum(array.nbytes for array in values.values()) for values in parts.run({"x": X})]
    assert max(sizes) <= 5 * X.nbytes
    assert sum(sizes) == 21 * X.nbytes


def test_what_is_not_asked_for_is_not_shown(tmp_path: Path) -> None:
    _, found = _shown(_chain(5), {"v3"}, tmp_path)
    assert set(found) == {"v3"}


def test_no_border_where_no_tensor_can_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instrumented, "MOST", 1)
    model = parse("""g (float[N,4] x) => (float[M,4] y) {
      a = Neg(x)
      s = SequenceConstruct(a, x)
      b = Relu(x)
      t = ConcatFromSequence<axis = 0>(s)
      y = Neg(t)
    }""")
    parts, found = _shown(model, {"a", "b", "t", "y"}, tmp_path)
    assert set(found) == {"a", "b", "t", "y"}
    np.testing.assert_array_equal(found["t"], np.concatenate([-X, X]))
    assert len(parts) < 4


def test_branches_read_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instrumented, "MOST", 1)
    model = parse("""g (float[N,4] x, bool c) => (float[N,4] y) {
      a = Neg(x)
      b = Relu(x)
      d = If (c) <then_branch = t () => (float[N,4] p) { p = Add(a, x) },
                  else_branch = e () => (float[N,4] q) { q = Sub(b, x) }>
      y = Neg(d)
    }""")
    shown = [value for node in model.graph for value in node.outputs]
    inputs = {"x": X, "c": np.array(False)}
    parts = Instrumented(model, shown, inputs, _opened, tmp_path)
    found = {name: array for values in parts.run(inputs) for name, array in values.items()}
    np.testing.assert_array_equal(found["y"], X - np.maximum(X, 0))
