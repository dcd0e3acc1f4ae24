"""What every pass promises, asked of every pass in the table."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import onnx_ir as ir
import pytest

import infopt.passes
from infopt.ir import queries
from infopt.ir.digest import model_digest
from infopt.passes import PASSES
from infopt.passes.base import Journal, Pass, Preserves
from infopt.pipeline import Pipeline
from tests.support import golden, zoo
from tests.support.models import assert_same, check, feeds, parse, run, to_text

MAX_LIMIT = 12

every_pass = pytest.mark.parametrize("name", PASSES)
every_model = pytest.mark.parametrize("model_name", zoo.MODELS)


def _signature(model: ir.Model) -> list[tuple[object, ...]]:
    graph = model.graph
    return [
        (kind, value.name, value.type, str(value.shape))
        for kind, values in (("input", graph.inputs), ("output", graph.outputs))
        for value in values
    ]


@every_model
@every_pass
def test_keeps_the_model_right(name: str, model_name: str) -> None:
    model = parse(zoo.MODELS[model_name])
    signature, text, digest = _signature(model), to_text(model), model_digest(model)
    inputs = feeds(model)
    expected = run(model, inputs)

    result = PASSES[name]().call(model)

    check(model)
    assert _signature(model) == signature
    changed = to_text(model) != text
    assert result.modified == changed == (model_digest(model) != digest)
    assert bool(result.journal.changes) == changed
    _assert_typed(model)
    changes = len(result.journal.changes)
    assert_same(expected, run(model, inputs), PASSES[name], changes=changes)


def _assert_typed(model: ir.Model) -> None:
    for node in model.graph.all_nodes():
        for output in node.outputs:
            assert not output.name or output.type is not None, f"{output.name} has no type"


@every_model
@every_pass
def test_is_idempotent(name: str, model_name: str) -> None:
    model = parse(zoo.MODELS[model_name])
    a_pass = PASSES[name]()
    a_pass.call(model)
    text = to_text(model)
    again = a_pass.call(model)
    assert not again.modified, again.journal.changes
    assert to_text(model) == text


@every_model
@every_pass
def test_any_number_of_changes_leaves_the_model_right(name: str, model_name: str) -> None:
    source = parse(zoo.MODELS[model_name])
    a_pass = PASSES[name]()
    inputs = feeds(source)
    expected = run(source, inputs)
    changes = a_pass.call(source.clone()).journal.changes
    for limit in range(min(len(changes), MAX_LIMIT)):
        model = source.clone()
        result = a_pass.call(model, limit)
        assert len(result.journal.changes) == limit
        assert result.journal.changes == changes[:limit]
        check(model)
        assert_same(expected, run(model, inputs), a_pass, changes=limit)


@every_pass
def test_never_merges_or_folds_random_numbers(name: str) -> None:
    model = parse(zoo.RANDOM)
    PASSES[name]().call(model)
    assert queries.count_operators(model)["RandomNormal"] == 2
    assert queries.count_operators(model)["RandomNormalLike"] == 2


@every_pass
def test_visits_subgraphs(name: str) -> None:
    """The golden cases of each pass show a change in a subgraph, or say why there is none."""
    if name == "inline-functions":
        model = parse(zoo.MODELS["functions"])
        assert PASSES[name]().call(model).modified
        return
    assert any(
        "_branch" in golden.Case.read(path).parts["model"] or "body =" in path.read_text()
        for path in (golden.ROOT / name).glob("*.txt")
    )


@every_pass
def test_text_form_parses_back(name: str) -> None:
    a_pass = PASSES[name]()
    assert str(a_pass) == name
    assert list(Pipeline.parse(str(a_pass)).passes()) == [a_pass]


@every_pass
def test_one_name_everywhere(name: str) -> None:
    cls = PASSES[name]
    words = name.split("-")
    assert cls.name == name
    assert cls.__name__ == "".join(word.capitalize() for word in words)
    module = importlib.import_module(cls.__module__)
    assert Path(str(module.__file__)).name == "_".join(words) + ".py"
    assert (golden.ROOT / name).is_dir()


@every_pass
def test_says_what_the_graph_becomes_and_what_it_preserves(name: str) -> None:
    cls = PASSES[name]
    assert len(inspect.getdoc(cls) or "") > 80
    assert isinstance(cls.preserves, Preserves)
    assert (cls.tolerance > 0) == (cls.preserves is Preserves.ROUNDING)
    assert inspect.getdoc(importlib.import_module(cls.__module__))


def test_every_module_of_a_pass_is_in_the_table() -> None:
    root = Path(str(infopt.passes.__file__)).parent
    rooms = ("cleanup", "fusion", "legalization", "precision", "quantization")
    modules = [path for room in rooms for path in root.glob(f"{room}/*.py")]
    words = {path.stem.replace("_", "-") for path in modules if path.stem[0] != "_"}
    assert words == set(PASSES)


@every_pass
def test_refusals_say_why(name: str) -> None:
    for text in zoo.MODELS.values():
        for refusal in PASSES[name]().call(parse(text)).journal.refusals:
            assert re.fullmatch(r"[a-zA-Z0-9-]+", refusal.rule)
            assert refusal.node
            assert len(refusal.reason) > 8


def test_a_limit_of_zero_changes_nothing() -> None:
    class Greedy(Pass):
        """Changes something twice."""

        name = "greedy"
        preserves = Preserves.EXACT

        def apply(self, model: ir.Model, journal: Journal) -> None:
            for node in list(model.graph):
                if journal.permits("rename", node):
                    node.name = "other"

    model = parse(zoo.MODELS["chains"])
    assert not Greedy().call(model, limit=0).modified
    assert len(Greedy().call(model, limit=2).journal.changes) == 2
