"""How many scales a tensor has: one, one for each index of an axis, or one for each block."""

from __future__ import annotations

import dataclasses

import numpy as np

from infopt.errors import QuantizationError


@dataclasses.dataclass(frozen=True)
class PerTensor:
    """One scale for the whole tensor.

    >>> PerTensor().scale_shape((3072, 768))
    ()
    """

    def scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the scale of a tensor of ``shape``: none, a scalar."""
        return ()

    def spread(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Scales (or zero points) in a shape that broadcasts against a tensor of ``shape``."""
        return values

    def reduce(self, array: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """``ufunc`` over each group of elements that share a scale, starting at 0."""
        return np.asarray(ufunc.reduce(array, axis=None, initial=array.dtype.type(0)))


@dataclasses.dataclass(frozen=True)
class PerAxis:
    """One scale for each index of ``axis``: the output channels of a weight.

    A linear layer's weight ``(out, in)``, a convolution's ``(out, in / groups, height, width)``:

    >>> PerAxis(0).scale_shape((3072, 768))
    (3072,)
    >>> PerAxis(0).scale_shape((64, 3, 7, 7))
    (64,)

    The weight of a MatMul is ``(in, out)``:

    >>> PerAxis(-1).scale_shape((768, 3072))
    (3072,)
    """

    axis: int

    def scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the scale of a tensor of ``shape``: ONNX wants one dimension.

        Raises:
            QuantizationError: The tensor has no such axis.
        """
        return (shape[normal_axis(self.axis, shape)],)

    def spread(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Scales (or zero points) in a shape that broadcasts against a tensor of ``shape``."""
        axis = normal_axis(self.axis, shape)
        return values.reshape([-1 if index == axis else 1 for index in range(len(shape))])

    def reduce(self, array: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """``ufunc`` over each group of elements that share a scale, starting at 0."""
        axis = normal_axis(self.axis, array.shape)
        others = tuple(index for index in range(array.ndim) if index != axis)
        return np.asarray(ufunc.reduce(array, axis=others, initial=array.dtype.type(0)))


@dataclasses.dataclass(frozen=True)
class PerBlock:
    """One scale for each ``block`` neighbours along ``axis``: what 4-bit weights need.

    The blocks of a linear layer's weight ``(out, in)`` lie along its inputs, those of a MatMul's
    ``(in, out)`` along axis 0:

    >>> PerBlock(1, 32).scale_shape((3072, 768))
    (3072, 24)
    >>> PerBlock(0, 128).scale_shape((768, 3072))
    (6, 3072)

    A last block may be shorter. QuantizeLinear allows it (a scale has ``ceil(size / block)``
    entries along the axis), and MatMulNBits does the same; there is nothing to pad:

    >>> PerBlock(1, 32).scale_shape((64, 100))
    (64, 4)
    """

    axis: int
    block: int

    def __post_init__(self) -> None:
        if self.block < 1:
            raise QuantizationError(f"a block holds {self.block} elements; give 1 or more")

    def scale_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the scale of a tensor of ``shape``.

        Raises:
            QuantizationError: The tensor has no such axis.
        """
        axis = normal_axis(self.axis, shape)
        return (*shape[:axis], -(-shape[axis] // self.block), *shape[axis + 1 :])

    def spread(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Scales (or zero points) of ``shape``: each repeated over its block."""
        axis = normal_axis(self.axis, shape)
        whole = np.repeat(values, self.block, axis=axis)
        return whole[(slice(None),) * axis + (slice(0, shape[axis]),)]

    def reduce(self, array: np.ndarray, ufunc: np.ufunc) -> np.ndarray:
        """``ufunc`` over each group of elements that share a scale, starting at 0."""
        axis = normal_axis(self.axis, array.shape)
        shape, size = self.scale_shape(array.shape), array.shape[axis]
        if not array.size:
            return np.zeros(shape, array.dtype)
        if size % self.block == 0:
            whole = array.reshape(*shape[: axis + 1], self.block, *shape[axis + 1 :])
            return np.asarray(ufunc.reduce(whole, axis=axis + 1, initial=array.dtype.type(0)))
        found = ufunc.reduceat(array, np.arange(0, size, self.block), axis=axis)
        return np.asarray(ufunc(found, array.dtype.type(0)))


Granularity = PerTensor | PerAxis | PerBlock


def normal_axis(axis: int, shape: tuple[int, ...]) -> int:
    """``axis`` counted from the front.

    Raises:
        QuantizationError: There is no such axis in ``shape``.
    """
    if not -len(shape) <= axis < len(shape):
        raise QuantizationError(f"a tensor of shape {list(shape)} has no axis {axis}")
    return axis % len(shape)
