"""Products of integers in forms that ONNX knows, but ONNX Runtime has no kernel for."""

from __future__ import annotations

from infopt.passes.legalization.lower_quantized_products import LowerQuantizedProducts
from tests.support.models import parse


def test_a_zero_point_for_each_row() -> None:
    model = parse(
        """g (uint8[2,2] x, float e) => (float[2,2] y)
        <int8[2,2] q = {1, -2, 3, 4}, float[2] s = {0.5, 0.25}, uint8[2] o = {1, 2}>
        {
            p = MatMulInteger(x, q, o)
            f = Cast <to = 1> (p)
            t = Mul(e, s)
            y = Mul(f, t)
        }"""
    )
    result = LowerQuantizedProducts().call(model)
    assert not result.modified
    (refusal,) = result.journal.refusals
    assert refusal.reason == "its input has more than one zero point"
