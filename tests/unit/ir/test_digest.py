from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from infopt.ir import files
from infopt.ir.digest import model_digest

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
g (float[n,3] x) => (float[n,3] y)
<float[3] a = {1.0, 2.0, 3.0}, float[3] b = {4.0, 5.0, 6.0}>
{
   [first] t = Add (x, a)
   [second] y = Mul (t, b)
}
"""


def _digest(text: str) -> str:
    return model_digest(ir.from_onnx_text(text))


def test_it_is_the_same_for_every_file_layout(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(proto, tmp_path / "embedded.onnx")
    onnx.save(proto, tmp_path / "external.onnx", save_as_external_data=True, size_threshold=0)
    embedded = model_digest(files.read_onnx(tmp_path / "embedded.onnx"))
    assert model_digest(files.read_onnx(tmp_path / "external.onnx")) == embedded


def test_it_is_the_same_for_another_order_of_weights_and_other_comments() -> None:
    swapped = TEXT.replace(
        "float[3] a = {1.0, 2.0, 3.0}, float[3] b = {4.0, 5.0, 6.0}",
        "float[3] b = {4.0, 5.0, 6.0}, float[3] a = {1.0, 2.0, 3.0}",
    )
    assert _digest(swapped) == _digest(TEXT)
    model = ir.from_onnx_text(TEXT)
    model.doc_string = "said"
    model.graph.node(0).doc_string = "more"
    assert model_digest(model) == _digest(TEXT)


def test_it_differs_wherever_the_model_does() -> None:
    variants = [
        TEXT,
        TEXT.replace("6.0", "6.5"),
        TEXT.replace("Mul (t, b)", "Mul (b, t)"),
        TEXT.replace("Mul", "Div"),
        TEXT.replace(": 20]", ": 21]"),
        TEXT.replace("(float[n,3] x)", "(float[m,3] x)"),
        TEXT.replace("Add (x, a)", "Add (x, b)"),
        TEXT.replace("float[3] b", "float[1,3] b"),
        TEXT.replace("y = Mul (t, b)", "y = Gemm <alpha = 2.0> (t, b)"),
        TEXT.replace("y = Mul (t, b)", "y = Gemm <beta = 2.0> (t, b)"),
    ]
    assert len({_digest(text) for text in variants}) == len(variants)


def test_subgraphs_count() -> None:
    def branch(value: float) -> str:
        return f"""<ir_version: 10, opset_import: ["" : 20]>
        g (bool c) => (float y) {{
          y = If (c) <
            then_branch = t () => (float a) {{ a = Constant <value_float = {value}> () }},
            else_branch = e () => (float b) {{ b = Constant <value_float = 0.0> () }}>
        }}"""

    assert _digest(branch(1.0)) != _digest(branch(2.0))
    assert _digest(branch(1.0)) == _digest(branch(1.0))
