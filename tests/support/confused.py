"""A pipeline that breaks a model, as only a defect would."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

import onnx
import onnx.parser
import onnx_ir as ir

from infopt.ir import queries
from infopt.passes.base import Journal, Pass, Preserves
from infopt.passes.cleanup.eliminate_dead_code import EliminateDeadCode
from infopt.passes.cleanup.fold_constants import FoldConstants
from infopt.pipeline import Pipeline

CHAIN = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[n,4] x) => (float[n,4] y)
<float[4] one = {1.0, 2.0, 3.0, 4.0}>
{
   [a] a = Add (x, one)
   [b] b = Mul (a, one)
   [c] c = Sub (b, one)
   [d] d = Mul (c, one)
   [e] y = Sub (d, one)
}
"""


@dataclasses.dataclass(frozen=True)
class Confuse(Pass):
    """Turns Sub into Add, as only a defect would; ``spare`` is left alone."""

    name: ClassVar[str] = "confuse"
    preserves = Preserves.EXACT
    spare: str = ""

    def apply(self, model: ir.Model, journal: Journal) -> None:
        for node in queries.nodes(model):
            if node.op_type in ("Mul", "Sub") and node.name != self.spare:
                if node.op_type == "Mul" and journal.permits("swap-factors", node):
                    first, second = node.inputs
                    node.replace_input_with(0, second)
                    node.replace_input_with(1, first)
                elif node.op_type == "Sub" and journal.permits("sub-to-add", node):
                    node.op_type = "Add"


BROKEN = Pipeline((EliminateDeadCode(), Confuse(spare="c"), FoldConstants()))


def chain(directory: Path) -> Path:
    """The model, as a file."""
    path = directory / "chain.onnx"
    onnx.save(onnx.parser.parse_model(CHAIN), path)
    return path
