from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import infopt
from infopt.backends.base import Session, Span, Timeline
from infopt.engine import TensorSpec
from infopt.errors import DataError, UnavailableError
from infopt.evidence.equivalence import Sample
from infopt.profiling import WARM_UP, Profile, profiled

LAYERS = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[n,64] x) => (float[n,64] y)
<float[64,64] w, float[64] b>
{
   ["net/layer.0/dense"] h = MatMul (x, w)
   ["net/layer.0/bias"] i = Add (h, b)
   ["net/layer.0/act"] r = Relu (i)
   ["net/layer.1/dense"] y = MatMul (r, w)
}
"""

LOOP = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[4] x) => (float[4] y)
<int64 n = {5}, bool yes = {1}>
{
   [loop] y = Loop (n, yes, x) <
     body = body (int64 i, bool go, float[4] v) => (bool go2, float[4] v2) {
        [go_on] go2 = Identity(go)
        [double] v2 = Add(v, v)
     }
   >
}
"""


@pytest.fixture
def layered(tmp_path: Path) -> Path:
    proto = onnx.parser.parse_model(LAYERS)
    rng = np.random.default_rng(0)
    del proto.graph.initializer[:]
    for name, shape in (("w", (64, 64)), ("b", (64,))):
        array = rng.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(proto, tmp_path / "layered.onnx")
    return tmp_path / "layered.onnx"


def test_every_node_that_runs_is_told_with_its_layer(layered: Path) -> None:
    found = infopt.profile(layered, shapes=["n=32"], seconds=0.1)
    assert found.calls >= 5
    assert "x=32×64" in found.sample
    assert {node.layer for node in found.nodes} == {"layer.0", "layer.1"}
    assert {node.origin for node in found.nodes} <= {
        f"net/layer.{name}" for name in ("0/dense", "0/bias", "0/act", "1/dense")
    }
    assert all(node.outputs == (("float", (32, 64)),) for node in found.nodes)
    assert all(node.provider == "CPUExecutionProvider" for node in found.nodes)
    assert sum(node.share for node in found.nodes) == pytest.approx(1)
    assert sum(operator.share for operator in found.operators) == pytest.approx(1)
    assert [node.seconds for node in found.nodes] == sorted(
        (node.seconds for node in found.nodes), reverse=True
    )
    assert found.seconds > 0


def test_what_the_runtime_fuses_is_traced_back(tmp_path: Path) -> None:
    """A convolution takes the Relu behind it in, and moves to channels in blocks."""
    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[1,3,8,8] x) => (float[1,4,8,8] z) <float[4,3,1,1] w = {1,2,3,4,5,6,7,8,9,10,11,12}> {
       ["stage.0/conv"] y = Conv (x, w)
       ["stage.0/act"] a = Relu (y)
       ["head/neg"] z = Neg (a)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    found = infopt.profile(tmp_path / "m.onnx", seconds=0.05)
    fused = next(node for node in found.nodes if "Conv" in node.operator)
    assert fused.origin == "stage.0/act"


def test_bodies_of_loops_are_counted_once(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(LOOP), tmp_path / "loop.onnx")
    found = infopt.profile(tmp_path / "loop.onnx", seconds=0.05)
    nodes = {node.operator: node for node in found.nodes}
    assert nodes["Add"].runs == 5
    assert nodes["Loop"].runs == 1
    assert found.calls >= 5
    # The loop's own time is what is left of it without its body.
    inside = [span for span in found.timeline.spans if span.operator == "Loop"]
    whole = statistics.median(span.seconds for span in inside)
    assert nodes["Loop"].seconds < whole


class _Noted(Session):
    """Whose profiler has noted what a test says."""

    inputs = (TensorSpec("x", "float", (1,)),)
    outputs = (TensorSpec("y", "float", (1,)),)

    def __init__(self, spans: list[tuple[str, float, float]]) -> None:
        self._spans = spans
        self.called = 0

    def __call__(self, inputs: object = None, /, **named: object) -> dict[str, object]:
        self.called += 1
        return {}

    def timeline(self) -> Timeline:
        calls = tuple((10.0 * number, 8.0) for number in range(self.called))
        spans = [
            Span(name, "", name, "cpu", (), begin + start, seconds * (1 + number), 7)
            for number, (begin, _) in enumerate(calls)
            for name, start, seconds in self._spans
        ]
        return Timeline(calls, tuple(spans))


def _profile(spans: list[tuple[str, float, float]]) -> tuple[Profile, _Noted]:
    session = _Noted(spans)
    model = ir.from_onnx_text(
        '<ir_version: 8, opset_import: ["" : 18]> g (float[1] x) => (float[1] y) { y = Relu(x) }'
    )
    sample = Sample({"x": np.zeros(1, np.float32)}, "made up")
    return profiled(session, model, sample, name="it", seconds=1e-9), session


def test_warm_up_is_not_counted_and_medians_are() -> None:
    found, session = _profile([("a", 0.0, 0.25), ("b", 2.5, 0.125)])
    assert session.called == WARM_UP + found.calls
    assert found.calls == 5
    nodes = {node.node: node for node in found.nodes}
    # Calls 3 to 7 count; the factor of call n is n + 1, its median 6.
    assert nodes["a"].seconds == pytest.approx(1.5)
    assert nodes["b"].share == pytest.approx(1 / 3)
    assert found.between == pytest.approx(8 - 6 * 0.375)


def test_what_lies_within_is_not_counted_twice() -> None:
    found, _ = _profile([("outer", 0.0, 0.9), ("inner", 0.1, 0.5)])
    nodes = {node.node: node.seconds for node in found.nodes}
    assert nodes["inner"] == pytest.approx(3.0)
    assert nodes["outer"] == pytest.approx(6 * 0.9 - 6 * 0.5)


def test_the_trace_has_the_form_of_trace_events() -> None:
    found, _ = _profile([("a", 0.0, 0.25), ("b", 2.5, 0.125)])
    trace = found.trace()
    complete = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    assert len(complete) == found.calls * 3
    assert all({"name", "cat", "ts", "dur", "pid", "tid"} <= event.keys() for event in complete)
    assert {event["ph"] for event in trace["traceEvents"]} == {"M", "X"}
    kernel = next(event for event in complete if event["name"] == "a")
    assert kernel["ts"] == pytest.approx(WARM_UP * 10e6)
    assert kernel["dur"] == pytest.approx((WARM_UP + 1) * 0.25e6)
    assert kernel["args"]["node"] == "a"


def test_a_runtime_without_a_profiler() -> None:
    class Bare(_Noted):
        timeline = Session.timeline

    sample = Sample({"x": np.zeros(1, np.float32)}, "made up")
    with pytest.raises(UnavailableError, match="only sessions of ONNX Runtime"):
        profiled(Bare([]), ir.from_onnx_text(LOOP), sample, name="it", seconds=1e-9)


def test_data_that_does_not_fit(layered: Path) -> None:
    with pytest.raises(DataError):
        infopt.profile(layered, data=[{"z": np.zeros((1, 64), np.float32)}], seconds=0.05)
