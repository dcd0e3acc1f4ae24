"""Calls on a device, on one that is there: the processor, with ONNX Runtime and torch themselves.

What a GPU adds to that (streams, graphs) is for ``pytest -m gpu``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from infopt.backends.base import RunOptions
from infopt.backends.onnxruntime import binding
from infopt.backends.onnxruntime.binding import CapturedCalls, Place
from infopt.backends.onnxruntime.providers import Providers
from infopt.backends.onnxruntime.session import OrtSession
from infopt.engine import TensorSpec
from infopt.errors import DataError, UsageError

TEXT = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[n,4] x, int64[n] k, bool[n] b) => (float[n,4] y, int64[n] j, bool[n] c)
{
   y = Relu (x)
   j = Neg (k)
   c = Not (b)
}
"""
OPTIONAL = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[n] x, float[1] w) => (float[n] y) <float[1] w = {2}> { y = Mul (x, w) }
"""
SEQUENCE = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[n] x) => (seq(float[n]) y) { y = SequenceConstruct (x, x) }
"""


@pytest.fixture
def on_a_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., OrtSession]:
    """Opens a model as for a GPU, on the processor."""

    def open_there(self: Providers, file: Path, settings: Any, without: list[str]) -> Any:
        return ort.InferenceSession(
            str(file), settings, providers=["CPUExecutionProvider"], disabled_optimizers=without
        )

    def session(text: str = TEXT, **options: str) -> OrtSession:
        onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
        return OrtSession(
            tmp_path / "m.onnx",
            "CUDAExecutionProvider",
            RunOptions(threads=1, provider_options=options),
            hold_names=True,
        )

    monkeypatch.setattr(Providers, "open", open_there)
    monkeypatch.setattr(Providers, "place", Place("cpu"))
    return session


def _feeds(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.standard_normal((n, 4), np.float32),
        "k": rng.integers(-9, 9, n),
        "b": rng.random(n) < 0.5,
    }


def _expected(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"y": np.maximum(feeds["x"], 0), "j": -feeds["k"], "c": ~feeds["b"]}


def _tensors(feeds: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in feeds.items()}


def _same(found: dict[str, Any], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        value = found[name]
        np.testing.assert_array_equal(
            value.numpy() if isinstance(value, torch.Tensor) else value, array
        )
        assert str(value.dtype).removeprefix("torch.") == str(array.dtype)


GRAPHS = {"enable_cuda_graph": "1"}


@pytest.mark.parametrize("options", [{}, GRAPHS])
@pytest.mark.parametrize("convert", [_tensors, dict], ids=["tensors", "arrays"])
def test_it_computes_what_it_should(
    on_a_device: Callable[..., OrtSession], options: dict[str, str], convert: Callable[..., Any]
) -> None:
    session = on_a_device(**options)
    for seed, n in enumerate([3, 3, 1, 3, 2, 1]):
        feeds = _feeds(n, seed)
        _same(session(convert(feeds)), _expected(feeds))


def test_tensors_are_read_where_they_lie(
    on_a_device: Callable[..., OrtSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    session = on_a_device()
    bound: dict[str, int] = {}
    real = ort.IOBinding.bind_input

    def bind(self: Any, name: str, *place: Any) -> None:
        bound[name] = place[-1]
        real(self, name, *place)

    monkeypatch.setattr(ort.IOBinding, "bind_input", bind)
    tensors = _tensors(_feeds(3))
    session(tensors)
    assert bound == {name: tensor.data_ptr() for name, tensor in tensors.items()}
    # In one piece it lies elsewhere, and is computed with all the same.
    crossed = _feeds(4)["x"]
    tensors = {**_tensors(_feeds(4)), "x": torch.from_numpy(crossed).t()}
    np.testing.assert_array_equal(session(tensors)["y"], np.maximum(crossed.T, 0))


@pytest.mark.parametrize("options", [{}, GRAPHS])
def test_outputs_outlive_later_calls(
    on_a_device: Callable[..., OrtSession], options: dict[str, str]
) -> None:
    session = on_a_device(**options)
    for convert in (_tensors, dict):
        first = session(convert(_feeds(3, 1)))
        again = session(convert(_feeds(3, 1)))
        session(convert(_feeds(3, 2)))
        _same(first, _expected(_feeds(3, 1)))
        _same(again, _expected(_feeds(3, 1)))


def test_one_graph_for_each_shape_as_long_as_there_is_room(
    on_a_device: Callable[..., OrtSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binding, "MOST_GRAPHS", 2)
    session = on_a_device(**GRAPHS)
    runs: list[str] = []
    real = ort.InferenceSession.run_with_iobinding

    def run(self: Any, bound: Any, settings: Any) -> None:
        runs.append(settings.get_run_config_entry("gpu_graph_id"))
        real(self, bound, settings)

    monkeypatch.setattr(ort.InferenceSession, "run_with_iobinding", run)
    for n in (3, 3, 1, 2, 2, 1):
        _same(session(_feeds(n)), _expected(_feeds(n)))
    # The first of a shape runs plainly, and then to be captured; the third shape finds no room.
    assert runs == ["-1", "1", "1", "-1", "2", "-1", "-1", "2"]
    assert session.facts() == {"cuda_graphs": "one for each shape, 2 so far"}


def test_without_graphs_nothing_is_said_of_them(on_a_device: Callable[..., OrtSession]) -> None:
    assert on_a_device().facts() == {}
    assert on_a_device(enable_cuda_graph="0").facts() == {}


@pytest.mark.parametrize("options", [{}, GRAPHS])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "input 'x' is missing; the inputs are x, k, b"),
        ({"z": torch.zeros(1)}, "there is no input 'z'"),
        ({"x": torch.zeros(3, 4, dtype=torch.float64)}, r"is torch\.float64, but the model takes"),
        ({"x": torch.zeros(4)}, r"has shape \[4\], but the model takes rank 2"),
        ({"x": torch.zeros(2, 4)}, r"'x' \[2, 4\] and 'k' \[3\] must have the same 'n'"),
        ({"x": torch.zeros(3, 5)}, "cannot run on these inputs"),
    ],
)
def test_what_does_not_fit_is_named(
    on_a_device: Callable[..., OrtSession],
    options: dict[str, str],
    change: dict[str, Any],
    message: str,
) -> None:
    session = on_a_device(**options)
    given = {n: v for n, v in {**_tensors(_feeds(3)), **change}.items() if v is not None}
    with pytest.raises(DataError, match=message):
        session(given)
    _same(session(_tensors(_feeds(3))), _expected(_feeds(3)))  # it has taken no harm


def test_a_default_is_not_left_out_in_silence(on_a_device: Callable[..., OrtSession]) -> None:
    x, w = np.ones(3, np.float32), np.full(1, 5, np.float32)
    plain = on_a_device(OPTIONAL)
    np.testing.assert_array_equal(plain(x=x, w=w)["y"], 5 * x)
    with pytest.raises(DataError, match="input 'w' is optional; give it as an array"):
        plain(x=torch.from_numpy(x), w=torch.from_numpy(w))
    captured = on_a_device(OPTIONAL, **GRAPHS)
    np.testing.assert_array_equal(captured(x=x)["y"], 2 * x)
    with pytest.raises(DataError, match="input 'w' is optional, and captured calls have its"):
        captured(x=x, w=w)


def test_what_lies_on_no_device_is_not_captured(on_a_device: Callable[..., OrtSession]) -> None:
    with pytest.raises(UsageError, match="can be captured: 'y' is no tensor of numbers"):
        on_a_device(SEQUENCE, **GRAPHS)
    assert binding.unbindable([TensorSpec("t", "string", (1,))]) == ["t"]
    assert binding.unbindable([TensorSpec("h", "bfloat16", (1,))]) == []


def test_a_provider_with_memory_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def without(*args: object) -> None:
        raise RuntimeError("Can't allocate memory on the CUDA device using this package")

    onnx.save(onnx.parser.parse_model(TEXT), tmp_path / "m.onnx")
    raw = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    types = ("float", "int64", "bool")
    inputs, outputs = (
        tuple(TensorSpec(name, dtype, None) for name, dtype in zip(names, types, strict=True))
        for names in ("xkb", "yjc")
    )
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_shape_and_type", without)
    calls = CapturedCalls(raw, inputs, outputs, Place("cpu"))
    _same(calls.run(_feeds(3)), _expected(_feeds(3)))
