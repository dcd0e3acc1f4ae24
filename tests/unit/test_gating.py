"""The gate end to end: faults are put into a model, and each turns it red."""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import infopt
from infopt import gating, looking
from infopt.errors import BaselineError, UsageError
from infopt.gates import junit, sarif
from infopt.gates.baseline import read_baseline
from infopt.gates.findings import Check, Finding
from infopt.measure.timing import AGAIN, Measurement, Subjects, interleave
from tests.support.schemas import validate_junit

WIDTH = 64
CLASSES = 8
RNG = np.random.default_rng(0)
SAMPLES = [{"x": RNG.standard_normal((50, WIDTH)).astype(np.float32)} for _ in range(2)]


def classifier(*, first: str = "x", spoiled: bool = False, layers: int = 3) -> onnx.ModelProto:
    """Dense layers with Gelu, written out as exporters do, between."""
    random = np.random.default_rng(1)
    nodes, weights, flow = [], [], first
    for number in range(layers):
        last = number == layers - 1
        shape = (WIDTH, CLASSES if last else WIDTH)
        weight = random.standard_normal(shape).astype(np.float32) / 8
        if spoiled and number == 1:
            weight[3, 4] += 8
        weights.append(numpy_helper.from_array(weight, f"w{number}"))
        nodes.append(
            helper.make_node("MatMul", [flow, f"w{number}"], [f"m{number}"], f"dense{number}")
        )
        flow = f"m{number}"
        if not last:
            nodes += _gelu(flow, f"g{number}")
            flow = f"g{number}"
    nodes.append(helper.make_node("Identity", [flow], ["scores"], "end"))
    for name, value in (("root", 2**0.5), ("one", 1.0), ("half", 0.5)):
        weights.append(numpy_helper.from_array(np.array(value, np.float32), name))
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info(first, TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _gelu(x: str, y: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Div", [x, "root"], [f"{y}.d"], f"{y}.div"),
        helper.make_node("Erf", [f"{y}.d"], [f"{y}.e"], f"{y}.erf"),
        helper.make_node("Add", [f"{y}.e", "one"], [f"{y}.a"], f"{y}.add"),
        helper.make_node("Mul", [x, f"{y}.a"], [f"{y}.m"], f"{y}.mul"),
        helper.make_node("Mul", [f"{y}.m", "half"], [y], f"{y}.half"),
    ]


@functools.cache
def truth() -> tuple[np.ndarray, ...]:
    """The classes that the original finds."""
    from onnx.reference import ReferenceEvaluator

    original = ReferenceEvaluator(classifier())
    outputs = [list(original.run(None, sample)) for sample in SAMPLES]
    return tuple(np.asarray(values[0]).argmax(1) for values in outputs)


def accuracy(outputs: Sequence[Mapping[str, Any]], inputs: Sequence[Mapping[str, Any]]) -> float:
    """Share of rows with the class that the original finds."""
    pairs = zip(outputs, truth(), strict=True)
    return float(np.mean([out["scores"].argmax(1) == right for out, right in pairs]))


class Bench:
    """Stands in for the machine: time passes only while a subject computes, and always alike."""

    def __init__(self) -> None:
        self.seconds = {"reference": 0.012, AGAIN: 0.012, "subject": 0.010}
        self.now = 0.0

    def interleave(self, subjects: Subjects, **options: Any) -> Measurement:
        """The real procedure, on subjects that take what they are said to."""

        def timed() -> Subjects:
            return {name: functools.partial(self.spend, name) for name in subjects}

        options |= {"renew": timed, "timer": self.clock, "clock": self.clock}
        return interleave(timed(), **options, sleep=self.sleep)

    def spend(self, name: str) -> None:
        self.now += self.seconds[name]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> float:
        return self.now


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    machine = Bench()
    monkeypatch.setattr(looking, "interleave", machine.interleave)
    return machine


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An original with engines of it at fp32 and int8."""
    place = tmp_path_factory.mktemp("gate")
    onnx.save(classifier(), place / "model.onnx")
    infopt.optimize(place / "model.onnx", place / "model.engine", measure=False)
    infopt.optimize(
        place / "model.onnx", place / "int8.engine", precision="int8", data=SAMPLES, measure=False
    )
    return place


@pytest.fixture
def at(room: Path, tmp_path: Path, bench: Bench) -> Path:
    """A copy of the room, with a baseline of either engine."""
    shutil.copytree(room, tmp_path, dirs_exist_ok=True)
    more: dict[str, Any] = {"data": SAMPLES, "metric": accuracy}
    for name, options in (("model", {}), ("int8", more)):
        gating.take_baseline(
            tmp_path / f"{name}.engine", tmp_path / f"{name}.json", cold_starts=False, **options
        )
    return tmp_path


def check(at: Path, subject: str, baseline: str = "model", **options: Any) -> Check:
    if baseline == "int8":
        options = {"data": SAMPLES, "metric": accuracy, "max_drop": 0.005} | options
    return gating.check(at / subject, at / f"{baseline}.json", **options)


def red(found: Check) -> dict[str, Finding]:
    """The findings that turned it red, each of which every report tells."""
    assert not found.holds
    counted = {finding.name: finding for finding in found.findings if finding.counts}
    cases = validate_junit(junit.render(found)).iter("testcase")
    failures = {case.attrib["name"]: case.find("failure") for case in cases}
    (run,) = json.loads(sarif.render(found))["runs"]
    told = {result["ruleId"]: result["message"]["text"] for result in run["results"]}
    for name, finding in counted.items():
        failure = failures[name]
        assert failure is not None
        assert failure.attrib["message"] == finding.sentence
        assert told[name] == f"{found.subject}: {finding.sentence}"
    assert set(told) == set(counted)
    return counted


@pytest.mark.parametrize("name", ["model", "int8"])
def test_an_engine_is_as_good_as_itself(at: Path, name: str) -> None:
    found = check(at, f"{name}.engine", name)
    assert found.holds, found.sentence
    assert found.verdict == "same"
    names = [finding.name for finding in found.findings]
    assert names == [
        *("interface", "operators", "fusions", "precision", "error"),
        *(("metric",) if name == "int8" else ()),
        *("latency", "size"),
    ]


def test_a_fusion_that_was_lost(at: Path) -> None:
    kept = _pipeline(at).replace("fuse-gelu,", "")
    infopt.optimize(at / "model.onnx", at / "e", pipeline=kept, measure=False)
    found = red(check(at, "e"))
    assert found["fusions"].sentence == "a fusion was lost: 0 Gelu, 2 in the baseline"


def _pipeline(at: Path) -> str:
    from infopt.engine import open_engine

    text = open_engine(at / "model.engine").manifest.pipeline
    assert "fuse-gelu," in text
    return text


def test_a_layer_that_is_back_in_fp32(at: Path) -> None:
    infopt.optimize(
        *(at / "model.onnx", at / "e"),
        precision="int8",
        data=SAMPLES,
        measure=False,
        scheme={"keep": "dense1"},
    )
    found = red(check(at, "e", "int8"))
    assert found["precision"].sentence == (
        "2 of 3 products at int8, 3 of 3 in the baseline; no longer: dense1 (float)"
    )


def test_a_weight_that_was_changed(at: Path) -> None:
    onnx.save(classifier(spoiled=True), at / "other.onnx")
    infopt.optimize(at / "other.onnx", at / "e", measure=False)
    found = red(check(at, "e"))
    assert set(found) == {"error"}
    assert found["error"].sentence.startswith("output 'scores' is off by ")
    assert found["error"].sentence.endswith("allowed are 1.0e-04 and 77.0 dB")


def test_a_tenth_more_latency(at: Path, bench: Bench) -> None:
    bench.seconds["subject"] *= 1.1
    found = red(check(at, "model.engine"))
    assert set(found) == {"latency"}
    assert found["latency"].sentence.startswith(
        "a call takes 10.0% longer than in the baseline, 5.0% are allowed"
    )
    assert check(at, "model.engine", max_slowdown="12%").holds


def test_a_machine_that_is_slower_altogether_is_no_slowdown(at: Path, bench: Bench) -> None:
    bench.seconds = {name: 3 * seconds for name, seconds in bench.seconds.items()}
    assert check(at, "model.engine").holds


def test_a_tenth_more_latency_is_nothing_where_the_noise_is_as_large(
    at: Path, bench: Bench
) -> None:
    bench.seconds["subject"] *= 1.1
    bench.seconds[AGAIN] *= 1.12
    found = red(check(at, "model.engine"))
    assert found["latency"].verdict == "inconclusive"
    assert check(at, "model.engine", lenient=True).holds


def test_a_size_that_doubled(at: Path) -> None:
    model = onnx.load(at / "model.onnx")
    # Weights that are read, and change nothing: twice the bytes for the same outputs.
    more = np.zeros((WIDTH, 3 * WIDTH), np.float32)
    more[0, 0] = 1e-30
    model.graph.initializer.append(numpy_helper.from_array(more, "ballast"))
    model.graph.node.insert(0, helper.make_node("MatMul", ["x", "ballast"], ["b1"], "load"))
    model.graph.node.insert(1, helper.make_node("ReduceMax", ["b1"], ["b2"], "most", keepdims=0))
    model.graph.node[-1].input[0] = "sum"
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Add", ["m2", "b2"], ["sum"], "tare")
    )
    onnx.save(model, at / "other.onnx")
    infopt.optimize(at / "other.onnx", at / "e", measure=False)
    found = red(check(at, "e"))
    assert "error" not in found
    assert re.fullmatch(
        r"[\d.]+ kB on disk, [\d.]+ kB in the baseline: \+1\d\d\.\d%, 5\.0% more allowed",
        found["size"].sentence,
    )


def test_accuracy_that_is_down_by_a_point(at: Path) -> None:
    taken = read_baseline(at / "int8.json").facts.metric
    assert taken is not None

    def worse(outputs: Sequence[Mapping[str, Any]], inputs: Sequence[Mapping[str, Any]]) -> float:
        spoiled = [{"scores": np.array(out["scores"])} for out in outputs]
        spoiled[0]["scores"][0] *= -1  # one answer of a hundred
        return accuracy(spoiled, inputs)

    found = red(check(at, "int8.engine", "int8", metric=worse))
    now = taken.value - 0.01
    assert set(found) == {"metric"}
    assert found["metric"].sentence == (
        f"accuracy is {now:.4g}, {taken.value:.4g} in the baseline: 0.01 lost, 0.005 allowed"
    )
    assert check(at, "int8.engine", "int8", metric=worse, max_drop=0.01).holds


def test_an_input_that_was_renamed(at: Path) -> None:
    onnx.save(classifier(first="pixels"), at / "other.onnx")
    infopt.optimize(at / "other.onnx", at / "e", measure=False)
    found = red(check(at, "e"))
    assert found["interface"].sentence == "input 'x' is called 'pixels' now"
    for name in ("error", "latency"):
        assert found[name].verdict == "inconclusive"
        assert "its inputs and outputs are not those of the baseline" in found[name].sentence


def test_a_model_in_the_place_of_an_engine(at: Path) -> None:
    found = red(check(at, "model.onnx"))
    assert set(found) == {"operators", "fusions"}
    assert check(at, "model.onnx", allow=("operators", "fusions")).holds


def test_the_reference_is_where_the_baseline_says(at: Path, tmp_path: Path) -> None:
    assert read_baseline(at / "model.json").reference.place == "model.onnx"
    away = tmp_path / "away"
    away.mkdir()
    (at / "model.onnx").rename(away / "model.onnx")
    with pytest.raises(BaselineError, match=r"the reference of .* is not at .*--reference"):
        check(at, "model.engine")
    assert check(at, "model.engine", reference=away / "model.onnx").holds


def test_another_reference_is_refused(at: Path) -> None:
    onnx.save(classifier(spoiled=True), at / "model.onnx")
    with pytest.raises(BaselineError, match=r"is not the reference of .*its digest is sha256:"):
        check(at, "model.engine")
    with pytest.raises(BaselineError, match="was made from a model with digest"):
        gating.take_baseline(at / "model.engine", at / "b.json")


def test_an_engine_whose_source_is_nowhere(at: Path) -> None:
    (at / "model.onnx").unlink()
    with pytest.raises(BaselineError, match=r"was made from model\.onnx, which is neither beside"):
        gating.take_baseline(at / "model.engine", at / "b.json")


def test_a_model_in_memory_is_kept_beside_the_baseline(at: Path) -> None:
    proto = classifier()
    infopt.optimize(proto, at / "e", measure=False)
    with pytest.raises(UsageError, match="model in memory"):
        gating.take_baseline(at / "e", at / "b.json", reference=proto, cold_starts=False)
    gating.take_baseline(
        at / "e", at / "b.json", reference=proto, keep_reference=True, cold_starts=False
    )
    assert read_baseline(at / "b.json").reference.place == "b.reference/model.onnx"
    assert gating.check(at / "e", at / "b.json").holds


def test_data_is_compared_and_never_found_by_name(at: Path) -> None:
    text = (at / "int8.json").read_text()
    assert json.loads(text)["facts"]["metric"]["name"] == "accuracy"
    with pytest.raises(UsageError, match="taken on given data; give the same with --data"):
        gating.check(at / "int8.engine", at / "int8.json")
    with pytest.raises(BaselineError, match=r"not the inputs that .* was taken on"):
        check(at, "int8.engine", "int8", data=SAMPLES[:1])
    with pytest.raises(UsageError, match="made-up inputs; check without --data"):
        check(at, "model.engine", data=SAMPLES)
    without = red(check(at, "int8.engine", "int8", metric=None, max_drop=None))
    assert without["metric"].verdict == "inconclusive"
    assert "give --metric accuracy and --max-drop" in without["metric"].sentence


def test_cold_starts_and_memory_in_processes_of_their_own(at: Path) -> None:
    gating.take_baseline(at / "model.engine", at / "b.json", seconds=3.0)
    taken = read_baseline(at / "b.json").facts
    assert taken.memory is not None
    assert 20e6 < taken.memory.own < 2e9
    # In so little time there are too few rounds for an interval, and that is what is told.
    assert "too few to say anything" in taken.unknown["cold-start"]
    found = {it.name: it for it in check(at, "model.engine", "b", seconds=1.0).findings}
    assert found["memory"].verdict == "same"
    assert found["cold-start"].verdict == "inconclusive"


def test_another_machine_is_told(at: Path) -> None:
    document = json.loads((at / "model.json").read_text())
    document["hardware"]["processor"] = "abacus"
    document["versions"]["onnxruntime"] = "0.1"
    (at / "model.json").write_text(json.dumps(document))
    notes = check(at, "model.engine").notes
    assert "the baseline was taken on another machine: processor abacus" in notes[0]
    assert notes[1].startswith("onnxruntime is ")
