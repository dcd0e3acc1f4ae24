import dataclasses
from collections.abc import Collection
from typing import ClassVar

import onnx_ir as ir
import pytest

from infopt.errors import PipelineError
from infopt.ir import queries
from infopt.passes import PASSES
from infopt.passes.base import Journal, Pass, Preserves
from infopt.pipeline import Calibrate, Pipeline, Repeat, Stop, summarize
from infopt.quant.calibration import Calibration, Request


@dataclasses.dataclass(frozen=True)
class DropRelu(Pass):
    """Drops ``at_most`` Relu nodes a run: relu(relu(x)) → relu(x)."""

    name: ClassVar[str] = "drop-relu"
    preserves = Preserves.EXACT
    at_most: int = 2
    loud: bool = False
    factor: float = 1.0
    note: str = ""

    def apply(self, model: ir.Model, journal: Journal) -> None:
        for node in list(model.graph)[: self.at_most]:
            if node.op_type != "Relu":
                journal.refuse("drop", node, "is no Relu")
            elif not node.outputs[0].is_graph_output() and journal.permits("drop", node):
                value = node.inputs[0]
                assert value is not None
                ir.convenience.replace_all_uses_with(node.outputs[0], value)
                model.graph.remove(node, safe=True)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PASSES, "drop-relu", DropRelu)


def _chain(count: int) -> ir.Model:
    body = "".join(f"[n{i}] t{i + 1} = Relu (t{i})\n" for i in range(count))
    return ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 24]> '
        f"g (float[2] t0) => (float[2] t{count}) {{ {body} }}"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "drop-relu",
        "drop-relu{at_most=5}",
        "drop-relu{loud=true,factor=0.5,note=x}",
        "drop-relu,repeat(drop-relu{at_most=1},drop-relu),drop-relu",
    ],
)
def test_the_text_form_parses_back(text: str) -> None:
    pipeline = Pipeline.parse(text)
    assert Pipeline.parse(str(pipeline)) == pipeline
    assert Pipeline.parse(f" {text.replace(',', ' , ')} ") == pipeline


def test_defaults_are_not_written() -> None:
    assert str(Pipeline.parse("drop-relu{at_most=2,loud=false}")) == "drop-relu"
    assert str(Pipeline.parse("drop-relu{loud=true}")) == "drop-relu{loud=true}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drop-rleu", "no pass 'drop-rleu'; did you mean 'drop-relu'"),
        (
            "drop-relu{at_mots=2}",
            "no option 'at_mots'; did you mean 'at_most'.*its options: at_most",
        ),
        ("drop-relu{at_most=two}", "must be int, not 'two'"),
        ("drop-relu{loud=yes}", "must be true or false, not 'yes'"),
        ("drop-relu{factor=fast}", "must be float"),
        ("drop-relu{at_most}", "expected '=', found '}'"),
        ("drop-relu{at_most=2", "expected '}', found the end"),
        ("drop-relu,,drop-relu", "expected 'a name', found ','"),
        ("repeat(drop-relu", r"expected '\)', found the end"),
        ("drop-relu drop-relu", "unexpected 'drop-relu'"),
        ("drop-relu;", "unexpected ';'"),
        ("repeat(repeat(drop-relu))", "no pass 'repeat'"),
    ],
)
def test_what_does_not_parse_says_why(text: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        Pipeline.parse(text)


def test_the_trace_tells_what_each_run_did() -> None:
    model = _chain(4)
    trace = Pipeline((DropRelu(), DropRelu(at_most=1))).run(model)
    assert [run.spec for run in trace] == ["drop-relu", "drop-relu{at_most=1}"]
    assert [(run.nodes_before, run.nodes_after) for run in trace] == [(4, 2), (2, 1)]
    assert [change.node for change in trace[0].changes] == ["n0", "n1"]
    assert summarize(trace) == {"drop": 3}


def test_refusals_are_in_the_trace() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 24]> '
        "g (float[2] x) => (float[2] y) { [n] y = Abs (x) }"
    )
    (run,) = Pipeline((DropRelu(),)).run(model)
    assert not run.changes
    assert (run.refusals[0].node, run.refusals[0].reason) == ("n", "is no Relu")


def test_a_repeat_runs_to_the_fixed_point_and_no_farther() -> None:
    model = _chain(6)
    trace = Pipeline((Repeat((DropRelu(at_most=2), DropRelu(at_most=1))),)).run(model)
    assert queries.count_nodes(model) == 1
    # 2 + 1 + 2 changes, then both passes in a row have nothing to do.
    assert [len(run.changes) for run in trace] == [2, 1, 2, 0, 0]


def test_a_pipeline_stops_where_it_is_told() -> None:
    pipeline = Pipeline((Repeat((DropRelu(),)), DropRelu()))
    for stop, left in [
        (Stop(0), 7),
        (Stop(0, 1), 6),
        (Stop(1), 5),
        (Stop(1, 1), 4),
        (Stop(2), 3),
        (Stop(99), 1),
    ]:
        model = _chain(7)
        pipeline.run(model, stop=stop)
        assert queries.count_nodes(model) == left, stop


def test_a_repeat_that_never_ends_is_a_defect() -> None:
    class Restless(DropRelu):
        def apply(self, model: ir.Model, journal: Journal) -> None:
            journal.permits("nothing", "nowhere")

    with pytest.raises(RuntimeError, match="still changes the model"):
        Pipeline((Repeat((Restless(),)),)).run(_chain(1))


@dataclasses.dataclass(frozen=True)
class Curious(DropRelu):
    """Wants to know of the input."""

    name: ClassVar[str] = "curious"

    def observes(self, model: ir.Model) -> list[Request]:
        return [Request(str(model.graph.inputs[0].name), "histogram")]


@pytest.mark.parametrize(
    ("stop", "times"),
    [(Stop(0), 0), (Stop(0, 1), 0), (Stop(1), 0), (Stop(1, 1), 1), (Stop(2), 1), (None, 1)],
)
def test_nothing_is_observed_behind_a_pass_that_was_cut_short(
    stop: Stop | None, times: int
) -> None:
    asked: list[Collection[Request]] = []

    def observe(_: ir.Model, wanted: Collection[Request]) -> Calibration:
        asked.append(wanted)
        return Calibration.empty("", wanted, synthetic=False)

    Pipeline((DropRelu(), Calibrate(), Curious())).run(_chain(7), stop=stop, observe=observe)
    assert len(asked) == times


def test_as_many_steps_as_it_takes_to_observe() -> None:
    asked: list[Collection[Request]] = []

    def observe(_: ir.Model, wanted: Collection[Request]) -> Calibration:
        asked.append(wanted)
        return Calibration.empty("", wanted, synthetic=False)

    pipeline = Pipeline((Calibrate(), Curious(), Calibrate(), Curious(), DropRelu()))
    trace = pipeline.run(_chain(7), steps=pipeline.observing(), observe=observe)
    assert (len(trace), len(asked)) == (1, 2)
    assert not Pipeline((DropRelu(),)).run(_chain(7), steps=Pipeline((DropRelu(),)).observing())
