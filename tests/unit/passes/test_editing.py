"""Edits leave names unique, outputs in place, and nothing dangling."""

from __future__ import annotations

from infopt.passes.editing import Editor, erase_unused, value_names, why_irreplaceable
from tests.support.models import check, parse, to_text

IF = """g (bool c, float[2] x) => (float[2] y) {
    a = Exp(x)
    y = If (c) <
        then_branch = t () => (float[2] p) { p = Neg(a) },
        else_branch = e () => (float[2] q) { q = Neg(x) }
    >
}"""


def test_fresh_names_are_new_in_all_graphs() -> None:
    editor = Editor(parse(IF))
    assert editor.fresh_name("p") == "p_2"
    assert editor.fresh_name("p") == "p_3"
    assert editor.fresh_name("new") == "new"


def test_value_names_include_those_of_branches() -> None:
    assert sorted(value_names(parse(IF))) == ["a", "c", "p", "q", "x", "y"]


def test_erasing_a_node_with_subgraphs_frees_what_they_captured() -> None:
    model = parse(
        IF.replace("float[2] y)", "float[2] y, float[2] z)").replace(
            "a = Exp(x)", "z = Abs(x)\n a = Exp(x)"
        )
    )
    output = model.graph.outputs.pop(0)
    erase_unused(output)
    assert [node.op_type for node in model.graph] == ["Abs"]


def test_an_output_takes_its_name_along() -> None:
    model = parse("g (float[N] x) => (float[N] y) { a = Neg(x)\n y = Identity(a) }")
    y, a = model.graph.outputs[0], model.graph[0].outputs[0]
    assert why_irreplaceable(y, a) is None
    Editor(model).replace(y, a)
    check(model)
    assert "y = Neg (x)" in to_text(model)
    assert len(model.graph) == 1


def test_an_input_cannot_become_an_output() -> None:
    model = parse("g (float[N] x) => (float[N] y) { y = Identity(x) }")
    assert "does not compute" in str(
        why_irreplaceable(model.graph.outputs[0], model.graph.inputs[0])
    )
