"""Products of uint8 and int8 are exact on processors whose instruction for them saturates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import infopt
from infopt.backends import backend_for
from infopt.backends.base import RunOptions
from infopt.backends.onnxruntime import saturation
from infopt.backends.onnxruntime.session import OrtSession
from infopt.errors import QuantizationError, SourceError
from infopt.ir import queries
from infopt.passes.quantization.quantize_dynamic import QuantizeDynamic
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.target import parse_target
from tests.support.stacked import network

HEAD = '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>'
LARGE = np.random.default_rng(0).choice(np.array([-127, -100, 100, 127], np.int8), (64, 8))
POINTS = np.array([3, -3, 0, 7, 0, 0, 1, -1], np.int8)
SCALES = np.linspace(0.01, 0.02, 8, dtype=np.float32)
ONE = np.float32(1 / 64)
INTEGERS = f"{HEAD} g (uint8[4,64] x) => (int32[4,8] y)"
FLOATS = f"{HEAD} g (float[4,64] x) => (float[4,8] y)"
ROUNDED = f"{FLOATS} {{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z)"

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "no zero point": (f"{INTEGERS} {{ y = MatMulInteger(x, w) }}", {"w": LARGE}),
    "zero points": (
        f"{INTEGERS} {{ z = Constant <value = uint8 {{2}}> () y = MatMulInteger(x, w, z, wz) }}",
        {"w": LARGE, "wz": POINTS},
    ),
    "weights read twice": (
        f"{INTEGERS} {{ a = MatMulInteger(x, w) b = MatMulInteger(x, w) y = Add(a, b) }}",
        {"w": LARGE},
    ),
    "dequantized, a scale each": (
        f"{ROUNDED} e = DequantizeLinear <axis = 1> (w, ws) y = MatMul(d, e) }}",
        {"w": LARGE, "ws": SCALES, "s": ONE, "z": np.uint8(0)},
    ),
    "zero points read twice": (
        f"{ROUNDED} e = DequantizeLinear <axis = 1> (w, ws, wz) f = DequantizeLinear <axis = 1> "
        "(v, ws, wz) a = MatMul(d, e) b = MatMul(d, f) y = Add(a, b) }",
        {"w": LARGE, "v": LARGE[::-1], "ws": SCALES, "wz": POINTS, "s": ONE, "z": np.uint8(0)},
    ),
    "as it runs": (
        f"{FLOATS} {{ y = com.microsoft.DynamicQuantizeMatMul(x, w, ws) }}",
        {"w": LARGE, "ws": SCALES},
    ),
}


def _model(text: str, constants: dict[str, Any]) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(text)
    del proto.graph.initializer[:]  # of those that the text declares
    for name, array in constants.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    return proto


def _written(text: str, constants: dict[str, Any], path: Path) -> Path:
    onnx.save(_model(text, constants), path)
    return path


def _run(file: Path) -> np.ndarray:
    """On inputs so large that sums of two products pass 16 bits."""
    session = OrtSession(file, "CPUExecutionProvider", RunOptions())
    rng = np.random.default_rng(1)
    x = rng.integers(200, 256, (4, 64)).astype(np.uint8)
    floats = session.inputs[0].dtype == "float"
    return np.asarray(session({"x": x.astype(np.float32) / 64 if floats else x})["y"])


def _computed(case: str) -> np.ndarray:
    x = np.random.default_rng(1).integers(200, 256, (4, 64)).astype(np.int64)
    weights = LARGE.astype(np.int64)
    match case:
        case "no zero point":
            return x @ weights
        case "zero points":
            return (x - 2) @ (weights - POINTS)
        case "weights read twice":
            return 2 * (x @ weights)
        case "zero points read twice":
            both = (weights - POINTS) + (weights[::-1] - POINTS)
            return (x @ both) * (SCALES.astype(np.float64) / 64)
    return (x @ weights) * (SCALES.astype(np.float64) / 64)


@pytest.mark.parametrize("saturates", [True, False], ids=["moved", "as the processor is"])
@pytest.mark.parametrize("case", MODELS)
def test_products_are_exact(
    case: str, saturates: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if saturates:
        monkeypatch.setattr(saturation, "saturates", lambda: True)
    text, constants = MODELS[case]
    found = _run(_written(text, constants, tmp_path / "m.onnx"))
    wanted = _computed(case)
    if found.dtype == np.int32:
        np.testing.assert_array_equal(found, wanted)
    elif case == "as it runs":  # the range is found anew: its step is 255 / 64 / 255, as ours
        np.testing.assert_allclose(found, wanted, rtol=0.01)
    else:
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("case", MODELS)
def test_no_large_integers_are_left(case: str) -> None:
    text, constants = MODELS[case]
    model = ir.from_proto(_model(text, constants))
    assert saturation.move_to_uint8(model) == text.count("(x, w") + text.count("(w, ws") + (
        text.count("(v, ws")
    )
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    for node in model.graph:
        for value in node.inputs:
            if value is not None and value.const_value is not None:
                assert value.const_value.dtype != ir.DataType.INT8
    assert saturation.move_to_uint8(model) == 0


@pytest.mark.parametrize(
    ("text", "constants"),
    [
        (MODELS["no zero point"][0], {"w": np.full((64, 8), 64, np.int8)}),
        (
            f"{HEAD} g (uint8[4,64] x, int8[64,8] w) => (int32[4,8] y) <int8[64,8] w> "
            "{ y = MatMulInteger(x, w) }",
            {"w": LARGE},
        ),
        (
            f"{FLOATS} {{ e = DequantizeLinear <axis = 0, block_size = 16> (w, s) "
            "y = MatMul(x, e) }",
            {"w": LARGE, "s": np.ones((4, 8), np.float32)},
        ),
    ],
    ids=["small weights", "weights of the caller", "blocks"],
)
def test_what_cannot_saturate_stays(text: str, constants: dict[str, Any]) -> None:
    model = ir.from_proto(_model(text, constants))
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    assert saturation.move_to_uint8(model) == 0
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


PAIRED = np.tile(np.array([[127, -127], [1, 90], [-128, 100], [0, 28]], np.int8), (16, 4))
"""Safe in this order of the rows, and in no other that begins at an odd place."""
SHIFTED = np.roll(PAIRED, 1, axis=0)

SAFE: dict[str, str] = {
    "MatMulInteger": f"{INTEGERS} {{ y = MatMulInteger(x, w) }}",
    "DynamicQuantizeMatMul": f"{FLOATS} {{ y = com.microsoft.DynamicQuantizeMatMul(x, w, ws) }}",
    "MatMul": f"{ROUNDED} e = DequantizeLinear <axis = 1> (w, ws) y = MatMul(d, e) }}",
    "Gemm": f"{ROUNDED} e = DequantizeLinear <axis = 1> (w, ws) y = Gemm(d, e) }}",
    "Gemm of transposed": (
        f"{ROUNDED} e = DequantizeLinear <axis = 0> (t, ws) y = Gemm <transB = 1> (d, e) }}"
    ),
    "Conv": (
        f"{HEAD} g (float[4,16,2,2] x) => (float[4,8,1,1] y) {{ q = QuantizeLinear(x, s, z) "
        "d = DequantizeLinear(q, s, z) e = DequantizeLinear <axis = 0> (c, ws) y = Conv(d, e) }"
    ),
}


@pytest.mark.parametrize("case", SAFE)
@pytest.mark.parametrize("weights", [PAIRED, SHIFTED], ids=["paired", "shifted"])
def test_neighbours_that_fit_stay(
    case: str, weights: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saturation, "adds_neighbours", lambda: True)
    model = _safe(case, weights)
    assert saturation.move_to_uint8(model) == (weights is SHIFTED)
    monkeypatch.setattr(saturation, "adds_neighbours", lambda: False)
    assert saturation.move_to_uint8(_safe(case, weights)) == 1


def _safe(case: str, weights: np.ndarray) -> ir.Model:
    # A convolution's filter is summed over by height, width and channel.
    filters = np.ascontiguousarray(np.moveaxis(weights.T.reshape(8, 2, 2, 16), -1, 1))
    forms = {"w": weights, "t": np.ascontiguousarray(weights.T), "c": filters}
    constants = {"ws": SCALES, "s": ONE, "z": np.uint8(0)}
    read = SAFE[case].replace("(x, ", "(")
    used = {name: array for name, array in forms.items() if f"({name}" in read.split("{", 1)[1]}
    return ir.from_proto(_model(SAFE[case], {**used, **constants}))


def test_weights_of_depthwise_convolutions_stay() -> None:
    text = (
        f"{HEAD} g (float[1,8,9,9] x) => (float[1,8,7,7] y) {{ q = QuantizeLinear(x, s, z) "
        "d = DequantizeLinear(q, s, z) e = DequantizeLinear <axis = 0> (w, ws) "
        "y = Conv <group = 8> (d, e) }"
    )
    constants = {"w": np.full((8, 1, 3, 3), 127, np.int8), "ws": SCALES, "s": ONE, "z": np.uint8(0)}
    assert saturation.move_to_uint8(ir.from_proto(_model(text, constants))) == 0


def test_what_reads_them_as_no_weights_counts_as_unsafe() -> None:
    text = (
        f"{FLOATS} {{ e = DequantizeLinear <axis = 1> (w, ws) f = Transpose(e) "
        "y = Gemm <transB = 1> (x, f) }"
    )
    model = ir.from_proto(_model(text, {"w": PAIRED, "ws": SCALES}))
    assert saturation.move_to_uint8(model) == 1


def test_what_two_nodes_read_is_moved_once() -> None:
    model = ir.from_proto(_model(*MODELS["weights read twice"]))
    assert saturation.move_to_uint8(model) == 2
    first, second = (node for node in model.graph if node.op_type == "MatMulInteger")
    assert first.inputs[1] is second.inputs[1]


def test_weights_of_functions_are_moved_operators_of_others_are_not() -> None:
    proto = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 21, "own": 1, "other": 1]>
        g (uint8[4,2] x) => (int32[4,2] y) { a = own.f(x) y = other.MatMulInteger(x, a) }
        <domain: "own", opset_import: ["": 21]>
        f (x) => (y) {
          w = Constant <value = int8[2,2] {100, -127, 90, -127}> () y = MatMulInteger(x, w)
        }
    """)
    model = ir.from_proto(proto)
    assert saturation.move_to_uint8(model) == 1
    (function,) = model.functions.values()
    (product,) = (node for node in function if node.op_type == "MatMulInteger")
    moved = queries.constant(product.inputs[1])
    assert moved is not None
    assert moved.tolist() == [[228, 1], [218, 1]]


def test_the_file_itself_is_used_where_nothing_can_saturate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text, constants = MODELS["no zero point"]
    file = _written(text, constants, tmp_path / "m.onnx")
    monkeypatch.setattr(saturation, "saturates", lambda: False)
    with saturation.exact(file, "cpu") as used:
        assert used == file
    monkeypatch.setattr(saturation, "saturates", lambda: True)
    with saturation.exact(file, "cuda") as used:
        assert used == file
    with saturation.exact(file, "cpu") as used:
        assert used != file
    assert not used.exists()
    assert onnx.load(file).graph.initializer[0].data_type == onnx.TensorProto.INT8


def test_a_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saturation, "saturates", lambda: True)
    (tmp_path / "m.onnx").write_bytes(b"none")
    with pytest.raises(SourceError, match="is not an ONNX model"):
        OrtSession(tmp_path / "m.onnx", "CPUExecutionProvider", RunOptions())


@pytest.mark.parametrize("precision", ["int8", "int8-dynamic"])
@pytest.mark.parametrize("unsaturated", [True, False])
def test_unsaturated_weights_need_not_be_moved(
    precision: str, unsaturated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saturation, "saturates", lambda: True)
    onnx.save(network(width=80), tmp_path / "m.onnx")
    rng = np.random.default_rng(2)
    data = [{"x": rng.standard_normal((16, 80)).astype(np.float32)} for _ in range(4)]
    engine = infopt.optimize(
        tmp_path / "m.onnx",
        tmp_path / "e",
        precision=precision,
        data=data,
        scheme={"unsaturated": str(unsaturated).lower()},
        measure=False,
    )
    assert engine.manifest.evidence["equivalence"]["holds"]
    written = onnx.load(engine.file("model.onnx"))
    weights = [
        onnx.numpy_helper.to_array(tensor, str(engine.path)).astype(np.int16)
        for tensor in written.graph.initializer
        if tensor.data_type == onnx.TensorProto.INT8 and len(tensor.dims) == 2
    ]
    assert weights
    largest = max(np.abs(array).max() for array in weights)
    assert 64 < largest <= 127 if unsaturated else largest == 127
    outcome = backend_for(parse_target("onnxruntime:cpu")).outcome(engine.path)
    assert outcome is not None
    assert outcome.integer
    assert outcome.advice == (() if unsaturated else (saturation.ADVICE,))


def test_only_int8_can_be_unsaturated() -> None:
    with pytest.raises(QuantizationError, match="weights of int8 can be unsaturated, not uint8"):
        QuantizeDynamic(weights="uint8", unsaturated=True)
    with pytest.raises(QuantizationError, match="can be unsaturated, not float8e4m3fn"):
        QuantizeStatic(activations="float8e4m3fn", weights="float8e4m3fn", unsaturated=True)
