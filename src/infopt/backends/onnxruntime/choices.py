"""What ONNX Runtime runs fastest, by measurement: the table behind legalization.

Each entry names a kernel benchmark; ``python -m benchmarks.kernels`` takes the figures again and
writes docs/benchmarks/kernels.md, and a test holds the table to them. A provider without entries
keeps the standard operators and all of ONNX Runtime's own optimizations: nothing was measured
there.
"""

from __future__ import annotations

import dataclasses

from infopt.backends.onnxruntime.opsets import NO_KERNEL_FROM_22
from infopt.passes.base import Pass
from infopt.passes.legalization.expand_operators import ExpandOperators
from infopt.passes.legalization.lower_swish import LowerSwish


@dataclasses.dataclass(frozen=True)
class Choice:
    """One decision: of several ways to compute the same, the one to use."""

    provider: str
    benchmark: str
    """Its name in the kernel benchmark."""
    kept: str
    """The way that is used."""
    legalization: Pass | None = None
    """The pass that writes it; ``None`` where the raised model has it already."""
    disabled: str = ""
    """ONNX Runtime's own optimizer that would undo it."""


_CPU = "CPUExecutionProvider"

CHOICES = (
    # ONNX Runtime 1.31 fuses the pair when it loads a model; its fused kernel is the slower one.
    Choice(_CPU, "sum and layer norm", "Add, LayerNormalization", disabled="SkipLayerNormFusion"),
    Choice(_CPU, "swish", "QuickGelu", LowerSwish()),
    Choice(_CPU, "attention", "Attention"),
    Choice(_CPU, "rotary embedding", "RotaryEmbedding"),
    Choice(_CPU, "sum and RMS norm", "Add, RMSNormalization"),
)


_AT_OPSET_21 = ExpandOperators(
    operators="Attention+RMSNormalization+RotaryEmbedding+Swish",
    beside="+".join(sorted(NO_KERNEL_FROM_22)),
)
"""Operators that opset 21 does not have, in models that only run there."""


def legalization(provider: str) -> tuple[Pass, ...]:
    """The passes for a provider."""
    chosen = [choice.legalization for choice in CHOICES if choice.provider == provider]
    # Last, so that what has a kernel of its own by now is not taken apart.
    return (*filter(None, chosen), _AT_OPSET_21)


def disabled_optimizers(provider: str) -> list[str]:
    """The optimizers of ONNX Runtime that engines on this provider run without."""
    return [
        choice.disabled for choice in CHOICES if choice.provider == provider and choice.disabled
    ]
