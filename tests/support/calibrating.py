"""Calibration of small models, without files."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from infopt.calibration import with_outputs
from infopt.ir.digest import model_digest
from infopt.quant.calibration import Calibration, Request
from tests.support.models import feeds, run

SAMPLES = 8


def observe(model: ir.Model, wanted: Collection[Request]) -> Calibration:
    """What was asked for, on seeded inputs."""
    calibration = Calibration.empty(model_digest(model), wanted, synthetic=True)
    watched = with_outputs(model, {request.value for request in wanted})
    names = [value.name or "" for value in watched.graph.outputs]
    for seed in range(SAMPLES):
        inputs = feeds(model, seed)
        outputs = dict(zip(names, run(watched, inputs), strict=True))
        calibration.update({**inputs, **outputs})
    return calibration
