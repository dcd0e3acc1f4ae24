"""Weights with a scale for each output channel to integers, by one of several algorithms."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.observed import NOT_OBSERVED
from infopt.passes.quantization._rounding import GAVE_UP, few_rows
from infopt.passes.quantization._sites import Site, channels_axis
from infopt.quant.affine import Parameters, parameters, quantize, weight_range
from infopt.quant.calibration import Calibration, Request
from infopt.quant.granularity import PerAxis
from infopt.quant.rounding.gptq import gptq
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
        spec: What to quantize to, with scales along the axis of the outputs.
        algorithm: One of :data:`ALGORITHMS`; rounding to nearest where it does not apply.
        calibration: What is known of ``value``.
        least: The least scale of each output: a channel of tiny weights cannot hold its bias else.
    """
    assert found.weights is not None
    weights = queries.constant(found.node.inputs[found.weights])
    assert weights is not None
    chosen = parameters(*weight_range(weights, spec.granularity), spec)
    tight = bool((chosen.scale < least).any())
    chosen = dataclasses.replace(chosen, scale=np.maximum(chosen.scale, np.float32(least)))
    if algorithm == "nearest":
        return quantize(weights, chosen, spec), chosen, []
    moments = calibration.moments(value.name, channels_axis(found.node))
    if tight or moments is None or not moments.rows or not is_matrix(found):
        return quantize(weights, chosen, spec), chosen, [_why_nearest(found, value, tight=tight)]
    rows = weights if found.axis == 0 else weights.T
    flat = np.ascontiguousarray(rows.reshape(rows.shape[0], -1))
    result = gptq(flat, moments.mean, dataclasses.replace(spec, granularity=PerAxis(0)))
    integers = result.quantized.reshape(rows.shape)
    integers = integers if found.axis == 0 else np.ascontiguousarray(integers.T)
    gave_up = [GAVE_UP] if result.gave_up else []
    return integers, result.parameters, [*few_rows(value, moments), *gave_up]


def _why_nearest(found: Site, value: ir.Value, *, tight: bool) -> str:
    if not is_matrix(found):
        return "an output depends on several vectors of inputs; it was rounded to nearest"
    if tight:
        return "its weights are tiny beside its bias; they were rounded to nearest"
    return f"{value.name!r} {NOT_OBSERVED}; its weights were rounded to nearest"
