"""What was observed of a model on data, kept with the model for the passes that follow."""

from __future__ import annotations

import onnx_ir as ir

from infopt.quant.calibration import Calibration

_KEY = "infopt.calibration"

NOT_OBSERVED = "was not observed on data; put calibrate before this pass"


def attach(model: ir.Model, calibration: Calibration) -> None:
    """Keep ``calibration`` with ``model``; it is written to no file."""
    model.meta[_KEY] = calibration


def calibration_of(model: ir.Model) -> Calibration:
    """What was observed last; an empty calibration if nothing was."""
    found = model.meta.get(_KEY)
    return found if isinstance(found, Calibration) else Calibration("", (), {})
