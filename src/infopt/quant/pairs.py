"""Weights whose products with uint8 no instruction of x86 saturates.

Without VNNI, x86 multiplies uint8 by int8 with VPMADDUBSW, which adds the products of two
neighbours up in 16 bits, and cuts what does not fit (Intel's manual, volume 2). 255 · 128 fits, 255
· 129 does not: two weights are safe if their sum is at most 128 in magnitude. Neighbours are those
along the dimension that is summed over, the first at an even place. ONNX Runtime lays it out as it
is in a matrix, and as height, width, channel in a convolution (:func:`as_rows`). Of depthwise
convolutions it multiplies in 32 bits. All of that was seen on a processor that saturates, and is
tested wherever there is one.
"""

from __future__ import annotations

import numpy as np

LARGEST_SUM = 128


def as_rows(weights: np.ndarray, axis: int) -> np.ndarray:
    """``(out, in)``: for each output what it sums over, in the order of the instruction.

    Args:
        weights: Of a linear layer, with two axes, or of a convolution,
            ``(out, in / groups, *kernel)``.
        axis: That of the outputs; 0 for a convolution.
    """
    turned = np.moveaxis(np.moveaxis(weights, axis, 0), 1, -1)
    return np.ascontiguousarray(turned).reshape(len(turned), -1)


def from_rows(rows: np.ndarray, axis: int, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of :func:`as_rows`: an array of ``shape``."""
    outputs = shape[axis]
    inputs, *kernel = (size for index, size in enumerate(shape) if index != axis)
    turned = np.moveaxis(rows.reshape(outputs, *kernel, inputs), -1, 1)
    return np.ascontiguousarray(np.moveaxis(turned, 0, axis))


def sums(rows: np.ndarray) -> np.ndarray:
    """The sums of neighbours along the last axis, ``(…, in // 2)``; finite if they are."""
    last = rows.shape[-1] // 2 * 2
    with np.errstate(over="ignore"):
        found = np.asarray(rows[..., 0:last:2] + rows[..., 1:last:2])
    if found.dtype.kind != "f":
        return found
    largest = np.finfo(found.dtype).max
    return found.clip(-largest, largest)


def are_safe(rows: np.ndarray) -> bool:
    """Whether no products of int8 weights can saturate."""
    found = sums(rows.astype(np.int16))
    return bool((np.abs(found) <= LARGEST_SUM).all())


def limits(neighbour: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Between which elements a weight has to be beside ``neighbour``, within ``[low, high]``."""
    return (
        np.maximum(-LARGEST_SUM - neighbour, low),
        np.minimum(LARGEST_SUM - neighbour, high),
    )
