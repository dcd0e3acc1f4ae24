"""What was asked for, and what came of it."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from infopt.backends.base import Outcome
from infopt.backends.tensorrt.layers import Layer
from infopt.backends.tensorrt.outcome import asked, compare

MODEL = """
<ir_version: 10, opset_import: ["" : 21]>
g (float[n,2] x, float16[n,2] h, float16[2,2] w, float[2,2] v)
 => (float[n,2] y, float16[n,2] z, float[n,2] u)
<int8[2,2] q = {0, 1, 2, 3}, float s = {0.5}, float[n,2] xd>
{
   [a] xq = QuantizeLinear (x, s)
   [b] xd = DequantizeLinear (xq, s)
   [c] qd = DequantizeLinear (q, s)
   [t] qt = Transpose <perm = [1, 0]> (qd)
   [eight] y = MatMul (xd, qt)
   [half] z = MatMul (h, w)
   [whole] u = MatMul (x, v)
}
"""


def _layer(*nodes: str, reads: tuple[str, ...] = (), kind: str = "gemm", tactic: str = "") -> Layer:
    return Layer(" + ".join(nodes), kind, reads, (), tactic, nodes)


def test_what_a_model_asks_for() -> None:
    assert asked(ir.from_onnx_text(MODEL)) == {"eight": "int8", "half": "float16", "whole": "float"}


def test_all_came_as_asked() -> None:
    found = compare(
        {"p": "int8", "q": "int8", "r": "float"},
        [
            _layer("p", "relu", reads=("int8", "int8")),
            _layer("q", reads=("int8",)),
            _layer("r", reads=("float",)),
            _layer("p", kind="Reformat", reads=("float",)),
        ],
    )
    assert (found.integer, found.floating, found.on, found.notes) == (2, (), "integers", ())
    assert (found.regions, found.reformats, len(found.layers)) == (1, 1, 4)
    assert found.kernels == {"gemm int8": 2, "gemm float": 1, "Reformat float": 1}


def test_what_did_not_come_is_named() -> None:
    wanted = {"p": "int8", "q": "int8"}
    layers = [_layer("p", reads=("int8",)), _layer("q", "add", reads=("float16", "float16"))]
    found = compare(wanted, layers)
    assert (found.integer, found.floating) == (1, ("q",))


def test_a_layer_that_only_changes_the_format_is_no_product() -> None:
    found = compare({"p": "int8"}, [_layer("p", kind="Reformat", reads=("int8",))])
    assert (found.integer, found.floating) == (0, ())
    assert found.notes == ("TensorRT does not tell the types of 1 of 1 products: p",)


def test_types_that_nobody_tells_are_not_guessed() -> None:
    found = compare({"p": "int8", "q": "int8"}, [_layer("p"), _layer("other", reads=("int8",))])
    assert (found.integer, found.floating) == (0, ())
    assert found.notes == ("TensorRT does not tell the types of 2 of 2 products: p, q",)


@pytest.mark.parametrize(
    ("dtype", "on"),
    [
        ("float8e4m3fn", "8-bit floats"),
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
        ("int4", "weights of 4 bits"),
    ],
)
def test_other_types_have_their_words(dtype: str, on: str) -> None:
    found = compare({"p": dtype}, [_layer("p", reads=(dtype,))])
    assert (found.integer, found.on) == (1, on)
    if dtype != "int4":  # whose weights may be part of the kernel
        assert compare({"p": dtype}, [_layer("p", reads=("float",))]).floating == ("p",)


def test_weights_of_4_bits_show_in_the_kernel() -> None:
    kernel = _layer("p", reads=("float16",), tactic="sm89_gemm_w4a16_tn")
    assert compare({"p": "int4"}, [kernel]).integer == 1
    assert compare({"p": "int4"}, [_layer("p", reads=("float16",))]).notes


def test_halves_beside_integers_are_not_counted() -> None:
    wanted = {"p": "int8", "q": "float16"}
    found = compare(wanted, [_layer("p", reads=("int8",)), _layer("q", reads=("float",))])
    assert (found.integer, found.floating, found.on) == (1, (), "integers")


def test_where_nothing_was_asked_for_there_is_nothing_to_miss() -> None:
    found = compare({"p": "float"}, [_layer("p", reads=("float",))])
    assert (found.integer, found.floating, found.notes) == (0, (), ())
    assert isinstance(found, Outcome)
