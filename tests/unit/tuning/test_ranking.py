"""The ranking: what a node does alone is what an engine does in which it alone is quantized."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import infopt
from infopt.errors import Interrupted, UsageError
from infopt.events import Event
from infopt.passes.keeping import join
from infopt.tuning import ranking as module
from infopt.tuning.ranking import Ranking

OPERATORS = "operators=Conv+Gemm+MatMul+Add,outputs=Conv+Add"
IN_FRONT = "calibrate,equalize-layers,calibrate"


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolutions of which one is hard to quantize, a residual sum, and a linear layer."""
    rng = np.random.default_rng(0)
    hard = rng.normal(size=(8, 8, 3, 3)) * np.where(np.arange(8) == 3, 30, 0.3)[:, None, None, None]
    arrays = {
        "w1": rng.normal(size=(8, 3, 3, 3)),
        "w2": hard,
        "w3": rng.normal(size=(8, 8, 3, 3)),
        "w4": rng.normal(size=(8, 5)),
        "b": rng.normal(size=(8,)),
    }
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[n,3,8,8] x) => (float[n,5] y) {
      [one] a = Conv<pads = [1, 1, 1, 1]>(x, w1, b)
      [two] c = Conv<pads = [1, 1, 1, 1]>(a, w2, b)
      [squash] s = Sigmoid(c)
      [three] d = Conv<pads = [1, 1, 1, 1]>(s, w3, b)
      [sum] e = Add(d, s)
      [pool] p = GlobalAveragePool(e)
      [flat] f = Flatten(p)
      [four] y = MatMul(f, w4)
    }"""
    proto = onnx.parser.parse_model(text)
    for name, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype("f"), name))
    path = tmp_path_factory.mktemp("network") / "network.onnx"
    onnx.save(proto, path)
    return path


def samples(count: int = 6) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(2, 3, 8, 8)).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope="module")
def found(network: Path) -> Ranking:
    return infopt.sensitivity(network, data=samples())


def test_the_worst_come_first(found: Ranking) -> None:
    noise = [damage.sqnr_db for damage in found.nodes]
    assert noise == sorted(noise)
    assert {damage.node for damage in found.nodes} == {"one", "two", "three", "sum", "four"}
    # The others' errors are a tenth of the worst one's at most, and may add to it or cancel.
    assert noise[1] > noise[0] + 20
    assert found.together.sqnr_db == pytest.approx(noise[0], abs=1)
    assert found.metric is None
    assert found.original is None
    assert len(found.samples) == 6
    assert found.samples[0] == "sample 0: x=2×3×8×8"


def test_shares(found: Ranking) -> None:
    nodes = {damage.node: damage for damage in found.nodes}
    constants = 8 * 27 + 2 * 8 * 72 + 40 + 8
    assert nodes["two"].weights == pytest.approx((8 * 72 + 8) / constants)
    assert nodes["sum"].weights == 0
    assert nodes["two"].flops == nodes["three"].flops
    assert 0.3 < (nodes["two"].flops or 0) < 0.5
    assert nodes["two"].operator == "Conv"


@pytest.mark.parametrize("node", ["one", "two", "three", "sum", "four"])
def test_it_is_what_an_engine_does_with_that_node_alone(
    node: str, found: Ranking, network: Path, tmp_path: Path
) -> None:
    others = join({"one", "two", "three", "sum", "four"} - {node})
    sums = ",sums=true" if node == "sum" else ""
    pipeline = f"{IN_FRONT},quantize-static{{keep={others},{OPERATORS}{sums}}},correct-bias"
    engine = infopt.optimize(
        network,
        tmp_path / "engine",
        pipeline=pipeline,
        data=samples(),
        measure=False,
        tolerance=np.inf,
    )
    session, exact = infopt.load(engine.path), infopt.load(_floats(network, tmp_path))
    a, b = (np.concatenate([run(s)["y"] for s in samples()]) for run in (session, exact))
    noise = 10 * np.log10(np.sum(b.astype(float) ** 2) / np.sum((a.astype(float) - b) ** 2))
    alone = next(damage for damage in found.nodes if damage.node == node)
    # Rounding of sums may move a number across a border between two integers.
    assert alone.sqnr_db == pytest.approx(noise, abs=0.1)


def _floats(network: Path, tmp_path: Path) -> Path:
    output = tmp_path / "float"
    infopt.optimize(network, output, pipeline="", verify=False)
    return output


def test_all_together_is_what_the_engine_does(
    found: Ranking, network: Path, tmp_path: Path
) -> None:
    engine = infopt.optimize(
        network, tmp_path / "engine", precision="int8", data=samples(), measure=False, least_sqnr=0
    )
    session, exact = infopt.load(engine.path), infopt.load(_floats(network, tmp_path))
    a, b = (np.concatenate([run(s)["y"] for s in samples()]) for run in (session, exact))
    noise = 10 * np.log10(np.sum(b.astype(float) ** 2) / np.sum((a.astype(float) - b) ** 2))
    assert found.together.sqnr_db == pytest.approx(noise, abs=0.1)


def _first(outputs: Sequence[Any], inputs: Sequence[Any]) -> float:
    """Something that is more in float than with node two in integers."""
    assert len(outputs) == len(inputs) == 6
    assert set(inputs[0]) == {"x"}
    return float(np.mean([out["y"] for out in outputs]))


def test_a_metric_decides(network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = infopt.sensitivity(network, data=samples(), metric=_first)
    drops = [damage.drop for damage in found.nodes]
    assert None not in drops
    assert drops == sorted(drops, key=lambda drop: -(drop or 0))
    assert found.metric == "_first"
    assert found.together.drop is not None
    # With no room for the outputs of two nodes the figures are the same.
    monkeypatch.setattr(module, "_ROOM", 1)
    again = infopt.sensitivity(network, data=samples(), metric=_first)
    assert again == found


def test_without_what_it_takes(network: Path) -> None:
    with pytest.raises(UsageError, match="this precision needs to see"):
        infopt.sensitivity(network)
    with pytest.raises(UsageError, match="made-up inputs; give --data"):
        infopt.sensitivity(network, metric=_first)
    with pytest.raises(UsageError, match="nothing is quantized"):
        infopt.sensitivity(network, precision="fp32", data=samples())
    with pytest.raises(UsageError, match="no node of this model can be quantized so"):
        infopt.sensitivity(network, pipeline="quantize-static", data=samples())


def test_made_up_inputs_where_they_are_asked_for(network: Path) -> None:
    found = infopt.sensitivity(network, synthetic_calibration=True)
    assert len(found.nodes) == 5
    assert "synthetic" in found.samples[0]


def test_weights_of_four_bits(network: Path) -> None:
    found = infopt.sensitivity(network, precision="int4", scheme="smallest=0", data=samples())
    assert [damage.node for damage in found.nodes] == ["four"]


def test_outputs_without_noise(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[n,2] x) => (int64[n,1] y) <float[2,2] w = {1, 2, 3, 4}> {
      [product] p = MatMul(x, w)
      y = ArgMax<axis = 1>(p)
    }"""
    path = tmp_path / "m.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    data = [{"x": np.array([[1, 2], [3, -4]], np.float32)}]
    with pytest.raises(UsageError, match="no output of the model is a floating-point number"):
        infopt.sensitivity(path, data=data)
    found = infopt.sensitivity(path, data=data, metric=lambda outputs, inputs: 1.0)
    assert found.nodes[0].drop == 0


def test_an_interrupted_ranking_says_how_far_it_came(network: Path) -> None:
    def stop(event: Event) -> None:
        if event.stage == "rank" and event.done == 9:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match=r"after 9 of 36 runs of the ranking"):
        infopt.sensitivity(network, data=samples(), on_event=stop)


def test_progress_can_be_told(network: Path) -> None:
    events: list[Event] = []
    infopt.sensitivity(network, data=samples(2), on_event=events.append)
    ranked = [event for event in events if event.stage == "rank"]
    assert [(event.done, event.total) for event in ranked] == [(n + 1, 12) for n in range(12)]


def test_ready_for_json(found: Ranking) -> None:
    import json

    document = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert document["nodes"][0]["node"] == found.nodes[0].node


def test_a_model_in_memory_is_not_changed(network: Path) -> None:
    model = ir.load(network)
    before = len(model.graph)
    infopt.sensitivity(model, data=iter(samples(2)))
    assert len(model.graph) == before
