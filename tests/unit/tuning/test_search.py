"""Nodes stay in float until a budget holds, and no more of them than that takes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import infopt
from infopt.engine import Engine
from infopt.errors import Interrupted, UsageError, VerificationError
from infopt.events import Event
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.keeping import KEPT, Keeping, split
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.pipeline import Calibrate, Pipeline
from infopt.tuning import search
from infopt.tuning.plan import plan_of

NODES = 6


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Linear layers, of which the fourth has weights of very unequal size."""
    rng = np.random.default_rng(0)
    lines, name = [], "x"
    arrays = {}
    for number in range(NODES):
        out = "y" if number == NODES - 1 else f"h{number}"
        lines += [f"[layer{number}] p{number} = MatMul({name}, w{number})"]
        lines += [f"[tanh{number}] {out} = Tanh(p{number})"]
        arrays[f"w{number}"] = rng.normal(size=(16, 16)) / 4
        name = out
    arrays["w3"][0] *= 40
    text = "\n".join(lines)
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> '
        f"g (float[n,16] x) => (float[n,16] y) {{ {text} }}"
    )
    for key, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array.astype("f"), key))
    path = tmp_path_factory.mktemp("network") / "network.onnx"
    onnx.save(proto, path)
    return path


def _data(count: int = 4) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.normal(size=(8, 16)).astype(np.float32)} for _ in range(count)]


def _optimize(network: Path, output: Path, **options: Any) -> Engine:
    given: dict[str, Any] = {
        "precision": "int8",
        "data": _data(),
        "measure": False,
        "least_sqnr": 0,
    } | options
    return infopt.optimize(network, output, **given)


def _error(engine: Engine) -> float:
    return float(engine.manifest.evidence["equivalence"]["outputs"]["y"]["sqnr_db"])


def _kept(engine: Engine) -> set[str]:
    plan = plan_of(Pipeline.parse(engine.manifest.pipeline))
    step = plan.pipeline.steps[plan.start]
    assert isinstance(step, Keeping)
    return set(split(step.keep))


def test_nothing_is_kept_that_need_not_be(network: Path, tmp_path: Path) -> None:
    engine = _optimize(network, tmp_path / "e", max_error="5dB")
    mixed = engine.manifest.evidence["mixed"]
    assert (mixed["kept"], mixed["evaluations"], mixed["holds"]) == ([], 1, True)
    assert mixed["limits"] == {"sqnr_db": 5.0}
    assert _kept(engine) == set()


def test_the_worst_stay_in_float_until_it_holds(network: Path, tmp_path: Path) -> None:
    plain = _optimize(network, tmp_path / "plain")
    wanted = _error(plain) + 3
    events: list[Event] = []
    engine = _optimize(network, tmp_path / "e", max_error=f"{wanted}dB", on_event=events.append)
    mixed = engine.manifest.evidence["mixed"]
    assert _error(engine) >= wanted
    assert engine.manifest.evidence["equivalence"]["least_sqnr"] == pytest.approx(wanted)
    assert 1 <= len(mixed["kept"]) < NODES
    assert _kept(engine) == {row["node"] for row in mixed["kept"]}
    assert mixed["evaluations"] == len(mixed["trials"]) <= 2 + 3
    assert sum(event.stage == "keep" for event in events) == mixed["evaluations"]
    # It is what the ranking says, and one less would not do.
    ranking = infopt.sensitivity(network, data=_data())
    worst = [damage.node for damage in ranking.nodes]
    count = len(mixed["kept"])
    assert [row["node"] for row in mixed["kept"]] == worst[:count]
    fewer = next((t for t in mixed["trials"] if t["kept"] == count - 1), None)
    assert fewer is not None
    assert not fewer["holds"]
    # The journal of the pass says why they are left alone.
    refusals = [r for run in engine.manifest.passes for r in run["refusals"]]
    assert {r["node"] for r in refusals if r["reason"] == KEPT} == set(worst[:count])
    json.dumps(engine.manifest.evidence, allow_nan=False)


def test_a_relative_error(network: Path, tmp_path: Path) -> None:
    plain = _optimize(network, tmp_path / "plain")
    now = plain.manifest.evidence["equivalence"]["outputs"]["y"]["max_relative"]
    engine = _optimize(network, tmp_path / "e", max_error=now / 2)
    found = engine.manifest.evidence
    assert found["equivalence"]["outputs"]["y"]["max_relative"] <= now / 2
    assert found["mixed"]["limits"] == {"max_relative": now / 2, "sqnr_db": 0.0}


def test_the_least_sqnr_counts_as_well(network: Path, tmp_path: Path) -> None:
    wanted = _error(_optimize(network, tmp_path / "plain")) + 3
    engine = _optimize(network, tmp_path / "e", max_error=1.0, least_sqnr=wanted)
    assert _error(engine) >= wanted
    assert engine.manifest.evidence["mixed"]["kept"]


def _score(outputs: Sequence[Mapping[str, Any]], inputs: Sequence[Any]) -> float:
    """One less the mean distance from what the model computes in float."""
    distances = [np.abs(out["y"] - _EXACT[i]).mean() for i, out in enumerate(outputs)]
    return 1 - float(np.mean(distances))


_EXACT: list[np.ndarray] = []


def test_a_drop_of_the_users_metric(network: Path, tmp_path: Path) -> None:
    infopt.optimize(network, tmp_path / "float", verify=False)
    session = infopt.load(tmp_path / "float")
    _EXACT[:] = [session(sample)["y"] for sample in _data()]
    plain = _optimize(network, tmp_path / "plain", max_drop=1.0, metric=_score)
    lost = plain.manifest.evidence["mixed"]["trials"][0]["drop"]
    assert lost > 0
    engine = _optimize(network, tmp_path / "e", max_drop=lost / 2, metric=_score)
    mixed = engine.manifest.evidence["mixed"]
    assert mixed["limits"] == {"sqnr_db": 0.0, "drop": lost / 2, "metric": "_score"}
    assert mixed["kept"]
    best = next(t for t in mixed["trials"] if t["kept"] == len(mixed["kept"]))
    assert best["drop"] <= lost / 2
    assert all(row["drop"] is not None for row in mixed["kept"])


@dataclasses.dataclass(frozen=True)
class Negate(Pass):
    """Wrong whatever is quantized: Tanh becomes Neg."""

    name: ClassVar[str] = "negate"
    preserves: ClassVar[Preserves] = Preserves.EXACT

    def apply(self, model: ir.Model, journal: Journal) -> None:
        for node in model.graph:
            if node.op_type == "Tanh" and journal.permits(self.name, node):
                node.op_type = "Neg"


def test_a_budget_that_nothing_holds(network: Path, tmp_path: Path) -> None:
    wrong = Pipeline((Calibrate(), QuantizeStatic(), Negate()))
    with pytest.raises(VerificationError, match="even with all 6 nodes in float, an output is bey"):
        _optimize(network, tmp_path / "e", max_error=0.01, pipeline=wrong)
    assert list(tmp_path.iterdir()) == []
    engine = _optimize(network, tmp_path / "e", max_error=0.01, pipeline=wrong, force=True)
    mixed = engine.manifest.evidence["mixed"]
    assert (mixed["holds"], mixed["evaluations"]) == (False, 2)
    assert not engine.manifest.evidence["equivalence"]["holds"]
    assert engine.manifest.evidence["culprit"]["step"] == "negate"


@pytest.mark.parametrize("holding", [{6}, {2, 6}, {1, 2, 6}, {3, 5, 6}, {1, 4, 6}, set(range(7))])
def test_what_is_returned_was_itself_found_to_hold(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holding: set[int]
) -> None:
    """Errors need not fall with every node that is kept."""

    class Judge:
        def __init__(self, witness: object, limits: object) -> None: ...

        def __call__(self, kept: int, session: object) -> search.Trial:
            return search.Trial(kept, kept in holding, 0.0, 0.0, None)

    monkeypatch.setattr(search, "_Judge", Judge)
    engine = _optimize(network, tmp_path / "e", max_error=1.0)
    mixed = engine.manifest.evidence["mixed"]
    assert len(mixed["kept"]) in holding
    tried = [trial["kept"] for trial in mixed["trials"]]
    assert len(mixed["kept"]) in tried
    assert len(tried) == len(set(tried)) <= 5


def test_one_node(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[n,2] x) => (float[n,2] y) <float[2,2] w = {1, 0.1, 0.013, 1}> {
      [only] y = MatMul(x, w)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    data = [{"x": np.array([[1, 2.3], [3, -4.7]], np.float32)}]
    engine = _optimize(tmp_path / "m.onnx", tmp_path / "e", max_error="100dB", data=data)
    mixed = engine.manifest.evidence["mixed"]
    assert [row["node"] for row in mixed["kept"]] == ["only"]
    assert mixed["evaluations"] == 2


def test_four_bits_without_data(network: Path, tmp_path: Path) -> None:
    options = {"precision": "int4", "data": None, "scheme": "smallest=0,block=16"}
    wanted = _error(_optimize(network, tmp_path / "plain", **options)) + 2
    engine = _optimize(network, tmp_path / "e", max_error=f"{wanted}dB", **options)
    assert _error(engine) >= wanted
    assert 0 < len(engine.manifest.evidence["mixed"]["kept"]) < NODES


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"verify": False}, "takes verification"),
        ({"precision": "fp32"}, "nothing is quantized"),
        ({"max_error": "lots"}, "is no bound"),
        ({"max_error": None, "max_drop": 0.1}, "give both --max-drop and --metric"),
        ({"pipeline": "quantize-static"}, "no node of this model is quantized"),
        ({"data": None}, "this precision needs to see"),
    ],
)
def test_options_that_do_not_fit(
    network: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        _optimize(network, tmp_path / "e", **({"max_error": 0.01} | options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["keep", "rank"])
def test_an_interrupt_leaves_nothing(network: Path, tmp_path: Path, stage: str) -> None:
    def stop(event: Event) -> None:
        if event.stage == stage and (stage == "keep" or event.done == 3):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="nothing half-written was left"):
        _optimize(network, tmp_path / "e", max_error="40dB", on_event=stop)
    assert list(tmp_path.iterdir()) == []


def test_the_original_is_asked_once(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outputs are remembered, where there is room for them; either way the result is one."""
    wanted = _error(_optimize(network, tmp_path / "plain")) + 3
    first = _optimize(network, tmp_path / "a", max_error=f"{wanted}dB")
    monkeypatch.setattr(search, "_ROOM", 0)
    second = _optimize(network, tmp_path / "b", max_error=f"{wanted}dB")
    assert first.manifest.evidence["mixed"] == second.manifest.evidence["mixed"]
