"""Weights of linear layers to integers: which way of rounding, and how much of a weight at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from infopt.quant.affine import Parameters
from infopt.quant.granularity import PerBlock
from infopt.quant.rounding.awq import awq
from infopt.quant.rounding.gptq import gptq
from infopt.quant.rounding.hqq import hqq
from infopt.quant.rounding.nearest import round_to_nearest
from infopt.quant.rounding.weight import RoundedWeight
from infopt.quant.spec import QuantSpec
from infopt.quant.statistics.moments import SecondMoment

ALGORITHMS = ("nearest", "hqq", "gptq", "awq")
OBSERVING = ("gptq", "awq")
"""Those that need to know the inputs of a layer."""
ROOM = 1 << 20
"""Elements rounded at once where rows are independent: scratch memory, some ten times as many
floats as this, does not grow with the weight, and fits the caches of a processor."""


GAVE_UP = "it left more error than rounding to nearest, which was done instead"


def few_rows(value: ir.Value, moment: SecondMoment) -> list[str]:
    """What the user should know where less was observed than there are unknowns."""
    if moment.rows >= moment.features:
        return []
    return [
        f"{value.name!r} has {moment.features:,} channels and was observed in {moment.rows:,} "
        f"row{'s' * (moment.rows != 1)}: the weights were fitted to these alone; give more data"
    ]


def spec_of(bits: int, block: int, *, symmetric: bool) -> QuantSpec:
    """Integers of 4 or 8 bits in blocks along the inputs of a weight ``(out, in)``."""
    dtype = ir.DataType[f"{'INT' if symmetric else 'UINT'}{bits}"]
    return QuantSpec(dtype, PerBlock(1, block), symmetric=symmetric)


def round_weight(
    weight: np.ndarray, spec: QuantSpec, algorithm: str, moment: np.ndarray | None
) -> tuple[np.ndarray, Parameters, bool]:
    """Elements, scales and zero points for a weight; whether they are the nearest after all.

    Args:
        weight: float32 ``(out, in)``, finite; it may be memory-mapped.
        spec: As :func:`spec_of` says.
        algorithm: One of :data:`ALGORITHMS`. ``awq`` is its search for clipping: scales of the
            inputs are in the weight and in the moment already.
        moment: float64 ``(in, in)``, the mean second moment of the inputs, for those of
            :data:`OBSERVING`.
    """
    if moment is not None and algorithm in OBSERVING:
        # Scales that were searched for, too: its errors are then made up for from a better start.
        if algorithm == "gptq":
            found = gptq(weight, moment, spec, search=True)
        else:
            found = awq(weight, moment, np.zeros(weight.shape[1]), spec)
        return found.quantized, found.parameters, found.gave_up
    whole = hqq if algorithm == "hqq" else round_to_nearest
    parts = [_part(whole(rows, spec)) for rows in _parts(weight)]
    elements, scales, zero_points = zip(*parts, strict=True)
    params = Parameters(np.concatenate(scales), np.concatenate(zero_points))
    return np.concatenate(elements), params, False


def _parts(weight: np.ndarray) -> Iterator[np.ndarray]:
    rows = max(1, ROOM // max(weight.shape[1], 1))
    for start in range(0, max(weight.shape[0], 1), rows):
        yield np.ascontiguousarray(weight[start : start + rows])


def _part(found: RoundedWeight) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return found.quantized, found.parameters.scale, found.parameters.zero_point
