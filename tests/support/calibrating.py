"""Calibration of small models, without files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import onnx_ir as ir

from infopt.calibration import with_outputs
from infopt.ir.digest import model_digest
from infopt.quant.calibration import Calibration, Request
from tests.support.models import Array, feeds, run

SAMPLES = 8


def observe(model: ir.Model, wanted: Collection[Request]) -> Calibration:
    """What was asked for, on seeded inputs."""
    return observe_on(model, wanted, [feeds(model, seed) for seed in range(SAMPLES)])


def observe_on(
    model: ir.Model, wanted: Collection[Request], samples: Iterable[Mapping[str, Array]]
) -> Calibration:
    """What was asked for, on these inputs."""
    calibration = Calibration.empty(model_digest(model), wanted, synthetic=True)
    watched = with_outputs(model, {request.value for request in wanted})
    names = [value.name or "" for value in watched.graph.outputs]
    for inputs in samples:
        outputs = dict(zip(names, run(watched, inputs), strict=True))
        calibration.update({**inputs, **outputs})
    return calibration
