"""Integers of 2, 4 and 8 bits as bytes: ONNX's int4 tensors, and the weights of MatMulNBits."""

from __future__ import annotations

import dataclasses

import numpy as np

from infopt.errors import QuantizationError

BITS = (2, 4, 8)


@dataclasses.dataclass(frozen=True, eq=False)
class PackedWeight:
    """The constant inputs of ``com.microsoft.MatMulNBits``, for ``N`` outputs and ``K`` inputs."""

    b: np.ndarray
    """uint8 ``(N, ceil(K / block), block · bits / 8)``."""
    scales: np.ndarray
    """float32 ``(N, ceil(K / block))``."""
    zero_points: np.ndarray
    """uint8 ``(N, ceil(ceil(K / block) · bits / 8))``: packed along the blocks of a row."""


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """``8 / bits`` neighbours of the last axis in one byte, the first in the lowest bits.

    Args:
        codes: Integers of 0 to ``2^bits - 1``, or signed ones of as many bits. A last axis that
            does not fill its last byte is filled with 0, as in ONNX's tensors of 4 bits.
        bits: 2, 4 or 8.

    Returns:
        uint8 of shape ``(..., ceil(size · bits / 8))``.

    Raises:
        QuantizationError: There is no packing of so many bits.
    """
    _check(bits)
    each = 8 // bits
    room = [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % each)]
    wide = np.pad(codes.astype(np.int16), room) & (2**bits - 1)
    parts = wide.reshape(*wide.shape[:-1], -1, each) << (bits * np.arange(each, dtype=np.int16))
    return np.asarray(np.bitwise_or.reduce(parts, axis=-1).astype(np.uint8))


def unpack(packed: np.ndarray, bits: int, size: int, *, signed: bool = False) -> np.ndarray:
    """The ``size`` integers of the last axis that :func:`pack` packed: uint8, or int8 if signed.

    Raises:
        QuantizationError: There is no packing of so many bits.
    """
    _check(bits)
    shifts = bits * np.arange(8 // bits, dtype=np.uint8)
    codes = (packed[..., None] >> shifts) & np.uint8(2**bits - 1)
    codes = codes.reshape(*packed.shape[:-1], -1)[..., :size]
    if not signed:
        return np.asarray(codes)
    room = np.uint8(8 - bits)
    raised: np.ndarray = codes << room
    return np.right_shift(raised.view(np.int8), np.int8(8 - bits))


def pack_matmul_nbits(
    quantized: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, *, bits: int = 4, block: int
) -> PackedWeight:
    """A weight in the layout of ``com.microsoft.MatMulNBits``.

    That operator computes ``x @ dequantized.T`` with unsigned elements. Signed ones are shifted
    by ``2^(bits - 1)``, zero points with them, which changes no value. A last block that is
    shorter is filled up with the zero point.

    Args:
        quantized: Integers ``(N, K)``: rows are output channels, blocks lie along the inputs.
        scale: float32 ``(N, ceil(K / block))``.
        zero_point: In the type of ``quantized``, same shape as ``scale``.
        bits: Bits of an element: 2, 4 or 8.
        block: Elements that share a scale: a power of two of at least 16.

    Raises:
        QuantizationError: The operator has no such form, or the shapes do not fit.
    """
    _check(bits)
    if block < 16 or block & (block - 1):
        raise QuantizationError(
            f"MatMulNBits takes blocks of a power of two of at least 16, not {block}"
        )
    if quantized.ndim != 2:
        raise QuantizationError(f"MatMulNBits takes a matrix, not shape {list(quantized.shape)}")
    rows, size = quantized.shape
    blocks = -(-size // block)
    if scale.shape != (rows, blocks) or zero_point.shape != (rows, blocks):
        raise QuantizationError(
            f"a weight of shape {[rows, size]} in blocks of {block} has scales of shape "
            f"{[rows, blocks]}, not {list(scale.shape)}"
        )
    if quantized.dtype != zero_point.dtype:
        raise QuantizationError(
            f"weights of {quantized.dtype} have zero points of {zero_point.dtype}"
        )
    shift = 2 ** (bits - 1) if quantized.dtype.name.startswith("int") else 0
    codes, zeros = (array.astype(np.int16) + shift for array in (quantized, zero_point))
    for codes_of in (codes, zeros):
        if codes_of.size and not 0 <= codes_of.min() <= codes_of.max() < 2**bits:
            raise QuantizationError(f"an element does not fit into {bits} bits")
    whole = np.repeat(zeros, block, axis=1)
    whole[:, :size] = codes
    return PackedWeight(
        b=pack(whole.reshape(rows, blocks, block), bits),
        scales=scale.astype(np.float32, copy=False),
        zero_points=pack(zeros, bits),
    )


def _check(bits: int) -> None:
    if bits not in BITS:
        raise QuantizationError(f"{bits} bits are not packed; use one of 2, 4, 8")
