import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_ir import DataType

from infopt.errors import QuantizationError
from infopt.quant.affine import dequantize, parameters, quantize, weight_range
from infopt.quant.granularity import PerBlock
from infopt.quant.packing import pack, pack_matmul_nbits, unpack
from infopt.quant.spec import QuantSpec
from tests.support import runtime

rng = np.random.default_rng(0)


@given(bits=st.sampled_from([2, 4, 8]), size=st.integers(0, 9), signed=st.booleans())
def test_packing_loses_nothing(bits: int, size: int, *, signed: bool) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else (0, 2**bits)
    codes = np.random.default_rng(size).integers(low, high, (3, size))
    packed = pack(codes, bits)
    assert packed.shape == (3, -(-size * bits // 8))
    assert np.array_equal(unpack(packed, bits, size, signed=signed), codes)


@pytest.mark.parametrize(
    ("dtype", "proto"),
    [(DataType.INT4, onnx.TensorProto.INT4), (DataType.UINT4, onnx.TensorProto.UINT4)],
)
def test_the_bytes_are_those_of_onnx(dtype: DataType, proto: int) -> None:
    spec = QuantSpec(dtype)
    codes = rng.integers(spec.low, spec.high + 1, 31)
    tensor = onnx.helper.make_tensor("t", proto, [31], codes)
    stored = onnx.numpy_helper.to_array(tensor).astype(np.int64)
    assert np.array_equal(stored, codes)
    whole = onnx.numpy_helper.from_array(codes.astype(spec.numpy_dtype))
    assert whole.raw_data == pack(codes, 4).tobytes()


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("dtype", [DataType.INT4, DataType.UINT4, DataType.INT8, DataType.UINT8])
@pytest.mark.parametrize(
    ("shape", "block"),
    [((24, 128), 32), ((5, 96), 16), ((8, 100), 32), ((3, 40), 128), ((1, 16), 16)],
)
def test_matmul_nbits_multiplies_by_the_dequantized_weight(
    shape: tuple[int, int], block: int, dtype: DataType, *, symmetric: bool
) -> None:
    spec = QuantSpec(dtype, PerBlock(1, block), symmetric)
    weight = rng.normal(0.3, 1, shape).astype(np.float32)
    params = parameters(*weight_range(weight, spec.granularity), spec)
    quantized = quantize(weight, params, spec)
    packed = pack_matmul_nbits(
        quantized, params.scale, params.zero_point, bits=spec.bits, block=block
    )
    x = rng.normal(0, 1, (7, shape[1])).astype(np.float32)
    found = runtime.matmul_nbits(x, packed, shape, spec.bits, block)
    expected = x.astype(np.float64) @ dequantize(quantized, params, spec).T
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_forms_that_the_operator_does_not_have() -> None:
    q, scale, zero = (
        np.zeros((4, 64), np.uint8),
        np.ones((4, 2), np.float32),
        np.zeros((4, 2), np.uint8),
    )
    with pytest.raises(QuantizationError, match="3 bits"):
        pack_matmul_nbits(q, scale, zero, bits=3, block=32)
    with pytest.raises(QuantizationError, match="power of two of at least 16, not 48"):
        pack_matmul_nbits(q, scale, zero, block=48)
    with pytest.raises(QuantizationError, match=r"scales of shape \[4, 4\], not \[4, 2\]"):
        pack_matmul_nbits(q, scale, zero, block=16)
    with pytest.raises(QuantizationError, match="a matrix"):
        pack_matmul_nbits(q[0], scale, zero, block=32)
    with pytest.raises(QuantizationError, match="zero points of int8"):
        pack_matmul_nbits(q, scale, zero.astype(np.int8), block=32)
    with pytest.raises(QuantizationError, match="does not fit into 4 bits"):
        pack_matmul_nbits(q + 16, scale, zero, block=32)
