import numpy as np
import onnx_ir as ir
import pytest

from infopt.errors import DataError
from infopt.evidence.shapes import Dim
from infopt.evidence.synthetic import required_inputs, synthesize

ENCODER = """
<ir_version: 10, opset_import: ["" : 20]>
g (int64[b,s] ids, int64[b,s] types, int64[b,s] attention_mask, float[b,s] x, bool[b] flag,
   float[30,4] table, float[2,4] kinds)
=> (float[b,s,4] y, float[b,s,4] z, int64[b,s] m)
{
   narrow = Cast <to = 6> (ids)
   y = Gather (table, narrow)
   z = Gather (kinds, types)
   m = Identity (attention_mask)
}
"""


def test_indices_stay_within_what_they_index() -> None:
    model = ir.from_onnx_text(ENCODER)
    inputs = synthesize(model, {"b": 16, "s": 64}, seed=0, ragged=False)
    assert inputs["ids"].min() >= 0
    assert 20 < inputs["ids"].max() < 30
    assert set(np.unique(inputs["types"])) == {0, 1}
    assert inputs["ids"].dtype == np.int64
    assert inputs["x"].shape == (16, 64)
    assert abs(float(inputs["x"].std()) - 1) < 0.1
    assert inputs["flag"].dtype == np.bool_


def test_masks_are_ones_or_prefixes() -> None:
    model = ir.from_onnx_text(ENCODER)
    full = synthesize(model, {"b": 4, "s": 9}, seed=0, ragged=False)["attention_mask"]
    assert (full == 1).all()
    ragged = synthesize(model, {"b": 4, "s": 9}, seed=0, ragged=True)["attention_mask"]
    assert (ragged[:, 0] == 1).all()
    assert (np.diff(ragged, axis=1) <= 0).all()
    assert len(set(ragged.sum(axis=1))) > 1


def test_the_seed_decides() -> None:
    model = ir.from_onnx_text(ENCODER)
    sizes: dict[Dim, int] = {"b": 2, "s": 3}
    a, b, c = (synthesize(model, sizes, seed=seed, ragged=True) for seed in (1, 1, 2))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(a["x"], c["x"])


def test_compared_constants_are_the_choices() -> None:
    model = ir.from_onnx_text("""
    <ir_version: 10, opset_import: ["" : 20]>
    g (int64 rate) => (bool a, bool b) <int64 wide = {16000}, int64 narrow = {8000}> {
       a = Equal (rate, wide)
       b = Equal (narrow, rate)
    }""")
    seen = {int(synthesize(model, {}, seed=s, ragged=False)["rate"]) for s in range(20)}
    assert seen == {8000, 16000}


def test_inputs_with_a_default_are_left_to_it() -> None:
    model = ir.from_onnx_text("""
    <ir_version: 10, opset_import: ["" : 20]>
    g (float[2] x, float[2] bias) => (float[2] y) <float[2] bias = {1.0, 2.0}> {
       y = Add (x, bias)
    }""")
    assert [value.name for value in required_inputs(model)] == ["x"]


@pytest.mark.parametrize("size", [2**44, 2**62])
def test_an_input_that_no_memory_holds_is_an_error_that_names_it(size: int) -> None:
    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 24]>
        g (float[{size},16] image) => (float[{size},16] y) {{ y = Relu (image) }}"""
    )
    with pytest.raises(DataError, match=rf"'image' of shape \[{size}, 16\]"):
        synthesize(model, {}, seed=0, ragged=False)
