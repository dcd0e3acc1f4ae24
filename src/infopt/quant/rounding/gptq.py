"""GPTQ: each column's rounding error is made up for by the columns that are still to come."""

from __future__ import annotations

import dataclasses

import numpy as np

from infopt.errors import QuantizationError
from infopt.quant.affine import Parameters, dequantize, round_to_codes
from infopt.quant.granularity import PerAxis, PerTensor
from infopt.quant.pairs import limits
from infopt.quant.rounding.nearest import (
    clipped_parameters,
    min_max_parameters,
    round_to_nearest,
)
from infopt.quant.rounding.weight import RoundedWeight, checked, output_error, row_blocks
from infopt.quant.spec import QuantSpec

DAMPING = 0.01
"""What is added to the diagonal of the Hessian, as a part of its mean."""
SMALL = 128
"""The largest triangle that is inverted as any matrix."""
LEAF = 16
"""Columns that are done one by one before the rest is updated in one product."""


def gptq(
    weight: np.ndarray,
    moment: np.ndarray,
    spec: QuantSpec,
    *,
    damping: float = DAMPING,
    by_activation: bool = False,
    search: bool = False,
) -> RoundedWeight:
    """Round the columns in turn, and move what is lost into those not yet rounded.

    Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained
    Transformers" (arXiv:2210.17323): with ``H⁻¹ = UᵀU`` and ``U`` upper triangular, the error
    ``e = (w - ŵ) / U[j, j]`` of column ``j`` is made good by ``W[:, k] -= e · U[j, k]``. The
    updates are lazy, by halves: the columns of a half are brought up to date when the other one is
    done, by one product. A scale is taken when its columns are up to date.

    Nothing in that bounds the error: where the damping is large beside most of the moment, what is
    moved may cost more than it mends. The result is then that of rounding to nearest.

    Args:
        weight: ``(out, in)``, finite.
        moment: ``(in, in)``, the mean second moment of the inputs.
        spec: What to quantize to.
        damping: Part of the mean of the diagonal that is added to it; raised where the moment is
            so close to singular that it takes more.
        by_activation: Round the columns with the largest activations first. Scales are then those
            of the original weight, since a block's columns are no longer neighbours in time.
        search: Search for the clipping of each scale, weighted with the activations.

    Raises:
        QuantizationError: The weight or the moment cannot be used.
    """
    weight = checked(weight, moment, spec)
    nearest = round_to_nearest(weight, spec, moment=moment)
    if not weight.size:
        return nearest
    energy = np.diagonal(moment).astype(np.float64)
    features = weight.shape[1]
    order = np.argsort(-energy, kind="stable") if by_activation else np.arange(features)
    solver = _Solver(
        spec=spec,
        block=row_blocks(spec, features),
        order=order,
        work=np.ascontiguousarray(weight.T[order]),
        factor=inverse_factor(moment[np.ix_(order, order)], damping),
        importance=energy if search else None,
    )
    if by_activation or isinstance(spec.granularity, PerTensor):
        solver.take_scales(weight)
    solver.solve(0, features)
    found = solver.result(weight, moment, nearest.error)
    return found if found.error <= nearest.error else dataclasses.replace(nearest, gave_up=True)


def inverse_factor(moment: np.ndarray, damping: float) -> np.ndarray:
    """float32 upper triangular ``U`` with ``UᵀU`` the inverse of the damped ``moment``.

    Inputs that are always 0 get the mean of the others on their diagonal.
    """
    hessian = (moment + moment.T) / 2
    diagonal = np.einsum("ii->i", hessian)
    mean = float(diagonal.mean()) or 1.0
    hessian /= mean
    diagonal[diagonal <= 0] = 1.0
    added = 0.0
    while True:
        diagonal += damping - added
        added = damping
        try:
            # Reversed, Cholesky's lower factor is an upper one R with H = R Rᵀ, so U = R⁻¹.
            root = np.linalg.cholesky(hessian[::-1, ::-1])[::-1, ::-1]
            break
        except np.linalg.LinAlgError:
            if damping > 1:
                raise QuantizationError(
                    "the second moment has no Cholesky factor; it is not one of real inputs"
                ) from None
            damping = max(10 * damping, 1e-6)
    return np.asarray(inverse_of_upper(root) / np.sqrt(mean), np.float32)


def inverse_of_upper(triangle: np.ndarray) -> np.ndarray:
    """The inverse of an upper triangular matrix, by halves: most of it is products.

    A general inverse, which is all that NumPy has, takes several times as long.
    """
    size = len(triangle)
    if size <= SMALL:
        return np.triu(np.linalg.inv(triangle))
    middle = size // 2
    first, last = slice(middle), slice(middle, size)
    found = np.zeros_like(triangle, order="C")
    found[first, first] = inverse_of_upper(triangle[first, first])
    found[last, last] = inverse_of_upper(triangle[last, last])
    found[first, last] = -found[first, first] @ (triangle[first, last] @ found[last, last])
    return found


@dataclasses.dataclass
class _Solver:
    """The columns of a weight on their way; the rows of all arrays are its columns."""

    spec: QuantSpec
    block: int
    order: np.ndarray
    """Which column stands where."""
    work: np.ndarray
    """``(in, out)``: weights, then errors as their columns are done."""
    factor: np.ndarray
    importance: np.ndarray | None

    def __post_init__(self) -> None:
        features, outputs = self.work.shape
        blocks = -(-features // self.block)
        self.codes = np.empty((features, outputs), np.float32)
        self.scale = np.empty((blocks, outputs), np.float32)
        self.zero = np.empty((blocks, outputs), np.float32)
        self.fixed = False
        self.places = {int(column): place for place, column in enumerate(self.order)}

    def take_scales(self, weight: np.ndarray) -> None:
        """Take all scales from the original ``weight``."""
        params = self._parameters(weight, self.spec, self.importance)
        blocks = len(self.scale)
        self.scale[:] = params.scale.reshape(-1, blocks).T
        self.zero[:] = params.zero_point.reshape(-1, blocks).T.astype(np.float32)
        self.fixed = True

    def solve(self, start: int, stop: int) -> None:
        """Round the columns from ``start`` to ``stop``, which are up to date."""
        first, last = start // self.block, (stop - 1) // self.block
        whole = first * self.block, min((first + 1) * self.block, len(self.order))
        if not self.fixed and (start, stop) == whole:
            self._take_scale(first)
        if first != last and not self.fixed:
            middle = (first + last + 1) // 2 * self.block
        elif stop - start > LEAF:
            middle = (start + stop) // 2
        else:
            for column in range(start, stop):
                self._round(column, stop)
            return
        self.solve(start, middle)
        self.work[middle:stop] -= self.factor[start:middle, middle:stop].T @ self.work[start:middle]
        self.solve(middle, stop)

    def result(self, weight: np.ndarray, moment: np.ndarray, nearest: float) -> RoundedWeight:
        """What was found, with the columns back in their places."""
        codes = np.empty_like(weight)
        codes[:, self.order] = self.codes.T
        kind, shape = self.spec.numpy_dtype, self.spec.granularity.scale_shape(weight.shape)
        if self.spec.bits == 4 and not self.spec.is_float:
            codes = codes.astype(np.int8)
        size = int(np.prod(shape))
        params = Parameters(
            self.scale.T.reshape(-1)[:size].reshape(shape).copy(),
            self.zero.T.reshape(-1)[:size].reshape(shape).astype(kind),
        )
        quantized = codes.astype(kind)
        error = output_error(weight - dequantize(quantized, params, self.spec), moment)
        return RoundedWeight(quantized, params, self.spec, error, nearest)

    def _take_scale(self, group: int) -> None:
        columns = slice(group * self.block, (group + 1) * self.block)
        spec = dataclasses.replace(self.spec, granularity=PerAxis(0))
        importance = None if self.importance is None else self.importance[columns]
        params = self._parameters(self.work[columns].T, spec, importance)
        self.scale[group], self.zero[group] = params.scale, params.zero_point

    def _parameters(
        self, weight: np.ndarray, spec: QuantSpec, importance: np.ndarray | None
    ) -> Parameters:
        if importance is None:
            return min_max_parameters(weight, spec)
        return clipped_parameters(weight, spec, importance)

    def _round(self, column: int, stop: int) -> None:
        group = self.order[column] // self.block
        scale, zero, row = self.scale[group], self.zero[group], self.work[column]
        self.codes[column] = round_to_codes(row, scale, zero, self.spec)
        neighbour = self.places.get(int(self.order[column]) ^ 1, column)
        if self.spec.unsaturated and neighbour < column:
            low, high = limits(self.codes[neighbour], self.spec.low, self.spec.high)
            np.clip(self.codes[column], low, high, out=self.codes[column])
        row -= (self.codes[column] - zero) * scale
        row /= self.factor[column, column]
        after = slice(column + 1, stop)
        self.work[after] -= self.factor[column, after, None] * row
