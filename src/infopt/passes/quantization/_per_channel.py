"""Weights with a scale for each output channel to integers, by one of several algorithms."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.observed import NOT_OBSERVED
from infopt.passes.quantization._rounding import GAVE_UP, few_rows
from infopt.passes.quantization._sites import Site, channels_axis, is_depthwise
from infopt.quant import pairs
from infopt.quant.affine import Parameters, quantize
from infopt.quant.calibration import Calibration, Request
from infopt.quant.rounding.gptq import gptq
from infopt.quant.rounding.nearest import min_max_parameters
from infopt.quant.spec import QuantSpec

ALGORITHMS = ("nearest", "gptq")


def request(found: Site, algorithm: str) -> Request | None:
    """What ``algorithm`` has to know of the inputs of an operator."""
    if algorithm != "gptq" or not is_matrix(found):
        return None
    return Request(found.inputs[0].name or "", "moments", channels_axis(found.node))


def is_matrix(found: Site) -> bool:
    """Whether each output depends on one vector of inputs: a product, or a pointwise Conv."""
    if found.node.op_type != "Conv":
        return True
    shape = queries.static_shape(found.node.inputs[1])
    group = queries.attribute(found.node, "group", 1)
    return shape is not None and group == 1 and math.prod(shape[2:]) == 1


def rounded(
    found: Site,
    value: ir.Value,
    spec: QuantSpec,
    algorithm: str,
    calibration: Calibration,
    least: np.ndarray | float,
) -> tuple[np.ndarray, Parameters, list[str]]:
    """The weights as integers, in their own shape, their scales, and what the user should know.

    Args:
        found: The operator.
        value: What it reads: the activation before it was quantized.
        spec: What to quantize to, with a scale for each output: ``PerAxis(0)``.
        algorithm: One of :data:`ALGORITHMS`; rounding to nearest where it does not apply.
        calibration: What is known of ``value``.
        least: The least scale of each output: a channel of tiny weights cannot hold its bias else.
    """
    assert found.weights is not None
    weights = queries.constant(found.node.inputs[found.weights])
    assert weights is not None
    rows = pairs.as_rows(weights, found.axis)
    if is_depthwise(found):
        spec = dataclasses.replace(spec, unsaturated=False)
    chosen = min_max_parameters(rows, spec)
    tight = bool((chosen.scale < least).any())
    chosen = dataclasses.replace(chosen, scale=np.maximum(chosen.scale, np.float32(least)))
    notes = []
    moments = calibration.moments(value.name, channels_axis(found.node))
    if algorithm == "nearest":
        integers = quantize(rows, chosen, spec)
    elif tight or moments is None or not moments.rows or not is_matrix(found):
        integers = quantize(rows, chosen, spec)
        notes = [_why_nearest(found, value, tight=tight)]
    else:
        result = gptq(rows, moments.mean, spec)
        integers, chosen = result.quantized, result.parameters
        notes = [*few_rows(value, moments), *([GAVE_UP] if result.gave_up else [])]
    return pairs.from_rows(integers, found.axis, weights.shape), chosen, notes


def _why_nearest(found: Site, value: ir.Value, *, tight: bool) -> str:
    if not is_matrix(found):
        return "an output depends on several vectors of inputs; it was rounded to nearest"
    if tight:
        return "its weights are tiny beside its bias; they were rounded to nearest"
    return f"{value.name!r} {NOT_OBSERVED}; its weights were rounded to nearest"
