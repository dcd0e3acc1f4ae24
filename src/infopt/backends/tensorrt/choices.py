"""Which operators TensorRT takes as they are, and what becomes of the others."""

from __future__ import annotations

from infopt.errors import UsageError
from infopt.passes.base import Pass
from infopt.passes.cleanup.eliminate_common_subexpressions import EliminateCommonSubexpressions
from infopt.passes.cleanup.eliminate_dead_code import EliminateDeadCode
from infopt.passes.cleanup.fold_constants import FoldConstants
from infopt.passes.legalization.expand_operators import ExpandOperators
from infopt.pipeline import Step
from infopt.target import Target

LACKING = (
    "AffineGrid",
    "CenterCropPad",
    "DynamicQuantizeLinear",
    "NegativeLogLikelihoodLoss",
    "SoftmaxCrossEntropyLoss",
)
"""Operators that the parser does not know and that ONNX defines by others. The parser of TensorRT
for RTX 1.7.1 says so; a test asks it again. Whatever raising makes is known to it."""


def legalization() -> tuple[Pass, ...]:
    """The passes that leave nothing but what the parser takes, as far as ONNX has words for it."""
    return (
        ExpandOperators(operators="+".join(LACKING)),
        # Definitions compute the same constants again and again.
        FoldConstants(),
        EliminateCommonSubexpressions(),
        EliminateDeadCode(),
    )


def precision(target: Target, name: str, *, data: bool) -> tuple[Step, ...]:
    """The steps that write precision ``name``.

    Raises:
        UsageError: Engines for TensorRT are not written in it.
    """
    del data
    if name != "fp32":
        raise UsageError(
            f"precision {name} is not for {target.name} yet; choose fp32, or onnxruntime:cuda"
        )
    return ()
