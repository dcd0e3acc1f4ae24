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
from infopt.passes.cleanup.eliminate_common_subexpressions import EliminateCommonSubexpressions
from infopt.passes.cleanup.eliminate_dead_code import EliminateDeadCode
from infopt.passes.legalization.expand_operators import ExpandOperators
from infopt.passes.legalization.lower_attention import LowerAttention
from infopt.passes.legalization.lower_block_products import LowerBlockProducts
from infopt.passes.legalization.lower_gemm import LowerGemm
from infopt.passes.legalization.lower_group_normalization import LowerGroupNormalization
from infopt.passes.legalization.lower_quantized_products import LowerQuantizedProducts
from infopt.passes.legalization.lower_swish import LowerSwish
from infopt.passes.legalization.pad_products import PadProducts
from infopt.passes.legalization.sink_biases import SinkBiases
from infopt.passes.legalization.unpack_projections import UnpackProjections


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
    # The same with these: as fast for a few rows, slower for many.
    Choice(_CPU, "bias and Gelu", "Add, Gelu", disabled="BiasGeluFusion"),
    # Three kernels read their own columns sooner than one copies them out for the others.
    Choice(_CPU, "three projections", "three products", UnpackProjections()),
    Choice(_CPU, "bias of keys", "no bias", SinkBiases()),
    # Gemm writes its bias into the result on one core first; and ONNX Runtime makes one of the two.
    Choice(_CPU, "linear layer", "MatMul, Add", LowerGemm(), disabled="MatMulAddFusion"),
    # The weights would be written out as floats in each run. On integers it is faster than the
    # product of floats was, on floats (levels 0 and 1) slower.
    Choice(
        _CPU,
        "linear layer in blocks",
        "MatMulNBits, level 4",
        LowerBlockProducts(accuracy_level=4),
    ),
    # ONNX Runtime 1.31 makes the same of the standard operators when it loads a model; written,
    # it does not depend on an optimizer.
    Choice(_CPU, "integers as it runs", "DynamicQuantizeMatMul", LowerQuantizedProducts()),
    # An input is rounded once, whoever reads it; the pass above leaves it so.
    Choice(_CPU, "three projections as it runs", "one DynamicQuantizeLinear"),
    # It has no kernel for GroupNormalization and runs it as its parts.
    Choice(_CPU, "group normalization", "InstanceNormalization", LowerGroupNormalization()),
    Choice(_CPU, "swish", "QuickGelu", LowerSwish()),
    # After it: a chain of functions is then of those that run.
    Choice(_CPU, "rows of whole pages", "rows one line longer", PadProducts()),
    Choice(_CPU, "attention", "Attention"),
    # It computes block by block what has no mask; that pays where the scores leave the cache.
    Choice(_CPU, "long attention", "MultiHeadAttention", LowerAttention()),
    Choice(_CPU, "causal mask", "is_causal"),
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
    chosen = [c.legalization for c in CHOICES if c.provider == provider and c.legalization]
    # Expanding comes last, so that what has a kernel of its own by now is not taken apart.
    if not chosen:
        return (_AT_OPSET_21,)
    # The parts of a product compute the same shape; and their weights are no longer read as one.
    return (*chosen, EliminateCommonSubexpressions(), EliminateDeadCode(), _AT_OPSET_21)


def linear(provider: str) -> tuple[Pass, ...]:
    """Those of them that decide how linear layers are written."""
    chosen = [c.legalization for c in CHOICES if c.provider == provider and c.legalization]
    return tuple(p for p in chosen if isinstance(p, (UnpackProjections, SinkBiases, LowerGemm)))


_UNASKED = ("WeightBiasQuantization",)
"""Optimizers of ONNX Runtime that quantize what the engine has in float: weights of an operator
that stands between quantized ones, to one scale for all channels. It took EfficientNet-lite0 with
20 nodes kept in float from 26 dB to -3 (ONNX Runtime 1.31.1)."""


def disabled_optimizers(provider: str) -> list[str]:
    """The optimizers of ONNX Runtime that engines on this provider run without."""
    slower = (choice.disabled for choice in CHOICES if choice.provider == provider)
    return [*_UNASKED, *filter(None, slower)]
