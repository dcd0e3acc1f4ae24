"""What was observed of a model on data, kept with the model for the passes that follow."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from infopt.ir import queries
from infopt.quant.calibration import Calibration

_KEY = "infopt.calibration"

NOT_OBSERVED = "was not observed on data; put calibrate before this pass"
INSTEAD = "int8-dynamic and int4 need no data"
"""What to choose where values cannot be observed."""


def attach(model: ir.Model, calibration: Calibration) -> None:
    """Keep ``calibration`` with ``model``; it is written to no file."""
    model.meta[_KEY] = calibration


def calibration_of(model: ir.Model) -> Calibration:
    """What was observed last; an empty calibration if nothing was."""
    found = model.meta.get(_KEY)
    return found if isinstance(found, Calibration) else Calibration("", (), {})


def unobserved(model: ir.Model, instead: str = INSTEAD) -> Iterator[tuple[ir.Graph, str]]:
    """The graphs whose values no calibration sees, each with the reason for what is left alone.

    Args:
        model: The model; of its main graph all values can be observed.
        instead: What to do about a branch or a loop.
    """
    for node in model.graph.all_nodes():
        where = "a branch" if queries.is_standard(node, "If") else "a loop"
        for graph in queries.subgraphs_of(node):
            yield graph, f"its values are not observed inside {where}; {instead}"
    for function in model.functions.values():
        for graph in (function.graph, *function.subgraphs()):
            yield (
                graph,
                "its values are not observed inside a function; put inline-functions before "
                "calibrate",
            )
