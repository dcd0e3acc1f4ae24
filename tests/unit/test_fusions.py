from pathlib import Path

import onnx_ir as ir
import pytest

import infopt
from infopt import fusions
from infopt.errors import ExpectationError, UsageError
from infopt.fusions import State
from infopt.importers import import_model
from infopt.inspection import inspect_fusions
from infopt.pipeline import Pipeline
from tests.support.layered import layered

GELU = "lift-constants,repeat(fuse-gelu),eliminate-dead-code"


@pytest.mark.parametrize("names", ["nodes", "scopes", "weights"])
def test_found_missed_and_why_by_layer(names: str) -> None:
    inspected = inspect_fusions(layered(3, names=names, odd=(1,)))
    found = inspected.fusions
    gelus = {s.layer: (s.state, s.reason) for s in found.sites if s.operator == "Gelu"}
    assert gelus == {
        "layer.0": (State.RAISED, ""),
        "layer.1": (State.MISSED, "the constant factor is 0.7, not 0.5"),
        "layer.2": (State.RAISED, ""),
    }
    norms = [site.layer for site in found.sites if site.operator == "LayerNormalization"]
    assert norms == ["layer.0", "layer.1", "layer.2", ""]
    assert found.as_dict()["Gelu"] == {"found": 2, "raised": 2, "missed": 1}
    assert "Swish" in found.operators
    assert "Swish" not in found.as_dict()
    assert inspected.nodes_before > inspected.nodes_after


def test_the_callers_model_is_left_as_it_was() -> None:
    model = ir.from_proto(layered(1))
    inspect_fusions(model)
    assert model.graph.num_nodes() == len(layered(1).graph.node)


def test_what_the_model_had_is_found_but_not_raised() -> None:
    once = import_model(layered(2)).model
    Pipeline.parse("fuse-gelu").run(once)
    found = inspect_fusions(once).fusions
    assert found.as_dict()["Gelu"] == {"found": 2, "raised": 0, "missed": 0}


def test_an_engine(tmp_path: Path) -> None:
    infopt.optimize(layered(2), tmp_path / "e", verify=False, pipeline="fuse-gelu")
    assert inspect_fusions(tmp_path / "e").fusions.as_dict()["Gelu"]["found"] == 2


def test_what_a_later_run_or_pass_takes_is_no_miss() -> None:
    model = import_model(layered(2, odd=(0,))).model
    trace, found = fusions.run(Pipeline.parse(f"{GELU},fuse-gelu"), model, expected={})
    assert sum(len(run.refusals) for run in trace) == 3  # the repeat asks twice
    assert found.count("Gelu", State.MISSED) == 1


def test_operators_are_counted_before_they_are_taken_apart_again() -> None:
    # Here the dead-code pass after the raising stands for a legalization.
    model = import_model(layered(1)).model
    nodes = [node for node in model.graph if node.op_type == "Erf"]
    nodes[0].outputs[0].name = "seen"
    expected = {"Gelu": 1, "MatMul": 2}
    trace, found = fusions.run(Pipeline.parse(GELU), model, expected=expected)
    assert [run.spec for run in trace] == [
        "lift-constants",
        "fuse-gelu",
        "fuse-gelu",
        "eliminate-dead-code",
    ]
    assert found.found("MatMul") == 2  # whatever operator is expected
    assert found.shortfall() == ""


def test_a_shortfall_says_what_was_missed_and_why() -> None:
    found = inspect_fusions(layered(5, odd=(0, 1, 2, 4)), expect={"Gelu": 5, "Swish": 1}).fusions
    assert found.shortfall() == (
        "1 of 5 expected Gelu, missed: layer.0, layer.1, layer.2 and 1 more "
        "(the constant factor is 0.7, not 0.5); "
        "0 of 1 expected Swish, and nothing else in the model resembles it"
    )
    assert inspect_fusions(layered(2), expect={"Gelu": 1}).fusions.shortfall() == ""  # at least


def test_optimize_insists(tmp_path: Path) -> None:
    def build(name: str, expect: dict[str, int]) -> infopt.Engine:
        output = tmp_path / name
        return infopt.optimize(
            layered(2), output, expect=expect, pipeline="fuse-gelu", verify=False
        )

    engine = build("e", {"Gelu": 2})
    assert engine.manifest.fusions["Gelu"] == {
        "found": 2,
        "raised": 2,
        "missed": 0,
        "expected": 2,
    }
    assert infopt.load(tmp_path / "e")
    with pytest.raises(ExpectationError, match=r"2 of 3 expected Gelu.*No engine was written"):
        build("f", {"Gelu": 3})
    assert not (tmp_path / "f").exists()
    with pytest.raises(ExpectationError, match="no pass of the pipeline raises it"):
        build("f", {"LayerNormalization": 1})


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ({"Atention": 1}, "did you mean 'Attention'"),
        ({"Attention": -1}, "must be 0 or more, not -1"),
        ({"Attention": True}, "must be 0 or more, not True"),
    ],
)
def test_wrong_expectations(expect: dict[str, int], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        infopt.optimize(layered(1), tmp_path / "e", expect=expect)


def test_expectations_as_text() -> None:
    assert fusions.parse_expected("Attention=12, Gelu = 0,") == {"Attention": 12, "Gelu": 0}
    assert fusions.parse_expected("") == {}
    for text in ("Attention", "Attention=", "=3", "Attention=-1", "Attention=1.5", "Gelu:1"):
        with pytest.raises(UsageError, match="write OPERATOR=COUNT"):
            fusions.parse_expected(text)
