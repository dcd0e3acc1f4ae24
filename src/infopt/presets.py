"""Presets: (target, precision) → Pipeline. Each line says why its pass stands where it stands."""

from __future__ import annotations

from infopt.backends.base import Backend
from infopt.errors import UsageError, nearest
from infopt.passes.cleanup.deduplicate_initializers import DeduplicateInitializers
from infopt.passes.cleanup.eliminate_common_subexpressions import EliminateCommonSubexpressions
from infopt.passes.cleanup.eliminate_dead_code import EliminateDeadCode
from infopt.passes.cleanup.eliminate_noops import EliminateNoops
from infopt.passes.cleanup.fold_constants import FoldConstants
from infopt.passes.cleanup.inline_functions import InlineFunctions
from infopt.passes.cleanup.lift_constants import LiftConstants
from infopt.passes.cleanup.merge_chains import MergeChains
from infopt.passes.cleanup.simplify_einsum import SimplifyEinsum
from infopt.passes.cleanup.simplify_shapes import SimplifyShapes
from infopt.passes.fusion.fuse_attention import FuseAttention
from infopt.passes.fusion.fuse_batch_normalization import FuseBatchNormalization
from infopt.passes.fusion.fuse_causal import FuseCausal
from infopt.passes.fusion.fuse_channel_affine import FuseChannelAffine
from infopt.passes.fusion.fuse_gelu import FuseGelu
from infopt.passes.fusion.fuse_gemm import FuseGemm
from infopt.passes.fusion.fuse_group_normalization import FuseGroupNormalization
from infopt.passes.fusion.fuse_hard_swish import FuseHardSwish
from infopt.passes.fusion.fuse_heads import FuseHeads
from infopt.passes.fusion.fuse_instance_normalization import FuseInstanceNormalization
from infopt.passes.fusion.fuse_layer_normalization import FuseLayerNormalization
from infopt.passes.fusion.fuse_mish import FuseMish
from infopt.passes.fusion.fuse_pad import FusePad
from infopt.passes.fusion.fuse_past import FusePast
from infopt.passes.fusion.fuse_residual import FuseResidual
from infopt.passes.fusion.fuse_rms_normalization import FuseRmsNormalization
from infopt.passes.fusion.fuse_rotary_embedding import FuseRotaryEmbedding
from infopt.passes.fusion.fuse_swish import FuseSwish
from infopt.passes.fusion.pack_projections import PackProjections
from infopt.passes.fusion.sink_reshapes import SinkReshapes
from infopt.pipeline import Pipeline, Repeat, Step

PRECISIONS = ("fp32",)
"""The precisions that can be asked for; fp32 leaves every type as the model has it."""


def preset(backend: Backend, precision: str = "fp32") -> Pipeline:
    """The pipeline for a target and a precision.

    Raises:
        UsageError: There is no such precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(
            f"there is no precision {precision!r}{nearest(precision, PRECISIONS)}; "
            f"known: {', '.join(PRECISIONS)}"
        )
    return Pipeline(
        (
            *cleanup(),
            *raising(),
            # Raising leaves shape arithmetic that nothing reads any more, and equal constants.
            *tidying(),
            *backend.legalization(),
        )
    )


def cleanup() -> tuple[Step, ...]:
    """What every model goes through first, whatever its target."""
    return (
        # Functions hide their bodies from every other pass.
        InlineFunctions(),
        # One form for all constants: passes then look at initializers only.
        LiftConstants(),
        # What nobody reads need not be folded, compared or measured.
        EliminateDeadCode(),
        # Equal weights first, so that equal subexpressions over them are seen as equal.
        DeduplicateInitializers(),
        # The reshapes and transposes that it writes meet others.
        SimplifyEinsum(),
        *tidying(),
    )


def tidying() -> tuple[Step, ...]:
    """What a model goes through again whenever it was rewritten."""
    return (
        Repeat(
            (
                # Known shapes turn shape arithmetic into constants …
                SimplifyShapes(),
                # … which feed folding …
                FoldConstants(),
                # … which shows that some nodes do nothing …
                EliminateNoops(),
                # … so that neighbours meet and merge …
                MergeChains(),
                # … or turn out equal.
                EliminateCommonSubexpressions(),
            )
        ),
        # Folding made constants; some are equal to others.
        DeduplicateInitializers(),
        # Last, so that nothing left behind is written to disk.
        EliminateDeadCode(),
    )


def raising() -> tuple[Step, ...]:
    """What makes one operator of each scattered pattern that :func:`cleanup` has laid bare."""
    return (
        # Normalizations first: the Mul and the Add that end them are there for the taking by
        # whatever looks for scales and biases.
        FuseLayerNormalization(),
        # Beside it, in either order: neither takes what the other is meant for.
        FuseRmsNormalization(),
        # Over space instead of a last axis; and either of them between two reshapes.
        FuseInstanceNormalization(),
        FuseGroupNormalization(),
        # Attention, its positions and its past before what they stand between: heads are then
        # split and merged right beside it …
        FuseAttention(),
        FuseRotaryEmbedding(),
        FusePast(),
        # Once it is known which attention has a past: beside one, a causal mask stays a mask.
        FuseCausal(),
        # … where the operators can do that themselves.
        FuseHeads(),
        # Three products of one input while they still stand beside the attention.
        PackProjections(),
        # The longer pattern first: its tanh form holds powers and products of x, as many a
        # shorter one does.
        FuseGelu(),
        # The shorter patterns, a gate and a Mul, take what is left.
        FuseSwish(),
        FuseHardSwish(),
        FuseMish(),
        # Into the weights before them, wherever those are, in whatever order they follow …
        Repeat((FuseBatchNormalization(), FuseChannelAffine())),
        # … and what stands in front of them.
        FusePad(),
        # Last what works row by row: every activation and normalization is one node by now …
        FuseGemm(),
        # … so that the reshapes around two neighbouring layers meet …
        SinkReshapes(),
        # … and disappear, which brings sums beside the products …
        *tidying(),
        # … that can take them in.
        FuseResidual(),
    )
