import onnx_ir as ir

from infopt.ir.schemas import allows_halves, signature
from tests.support.models import parse

CONV = """<ir_version: 11, opset_import: ["" : 24]>
g (bfloat16[1,1,4,4] x, bfloat16[1,1,2,2] w) => (bfloat16[1,1,3,3] y) { y = Conv(x, w) }"""


def _node(text: str) -> ir.Node:
    return next(iter(parse(text).graph))


def test_inputs_and_outputs_have_the_words_of_the_schema() -> None:
    found = signature(
        _node("""g (float[1,1,2,2] x, float[4] s) => (float[a,b,c,d] y) { y = Resize(x, , s) }"""),
        24,
    )
    assert found is not None
    assert found.inputs == ("T1", "T2", "tensor(float)")
    assert found.outputs == ("T1",)
    assert found.allows("T1", ir.DataType.BFLOAT16)
    assert found.allows("tensor(float)", ir.DataType.FLOAT)
    assert not found.allows("tensor(float)", ir.DataType.FLOAT16)


def test_the_last_formal_input_may_stand_for_several() -> None:
    found = signature(_node("g (float[2] x) => (float[6] y) { y = Concat<axis = 0>(x, x, x) }"), 24)
    assert found is not None
    assert found.inputs == ("T", "T", "T")


def test_what_has_no_schema_has_no_signature() -> None:
    assert signature(ir.Node("somewhere", "Odd", []), 1) is None
    assert signature(ir.Node("", "Attention", []), 22) is None


def test_types_belong_to_a_version() -> None:
    model = parse(CONV)
    assert allows_halves(model)
    model.graph.opset_imports[""] = 21  # before Conv took bfloat16
    assert not allows_halves(model)
