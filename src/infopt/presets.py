"""Presets: (target, precision) → Pipeline. Each line says why its pass stands where it stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from infopt.backends.base import Backend
from infopt.errors import UsageError, nearest
from infopt.passes.base import Pass, Preserves
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
from infopt.passes.quantization._rounding import OBSERVING
from infopt.pipeline import Pipeline, Repeat, Step, convert

HALVES = ("fp16", "bf16")
"""Precisions of 16 bits: what is observed of a model shows where it leaves their range, for which
made-up inputs do, too."""
INTEGERS = ("int8", "int8-dynamic", "int8-trained", "int4")
"""Precisions that quantize the weights of some operators, and leave the others as they are."""
PRECISIONS = ("fp32", *HALVES, "fp8", *INTEGERS)
"""The precisions that can be asked for; fp32 leaves every type as the model has it, fp8 is float8
of E4M3, int8-dynamic finds the ranges of activations as it runs, int8-trained computes with the
integers that a model was trained for, int4 stores the weights of linear layers in 4 bits."""


def preset(
    backend: Backend,
    precision: str = "fp32",
    *,
    data: bool = False,
    scheme: Mapping[str, str] | None = None,
) -> Pipeline:
    """The pipeline for a target and a precision.

    Args:
        backend: Of the target.
        precision: One of :data:`PRECISIONS`.
        data: Whether there is data to calibrate on, where a precision can do without.
        scheme: Options of the passes that change the precision, instead of those of the preset.

    Raises:
        UsageError: There is no such precision, or no such option.
    """
    scheme = scheme or {}
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
            *_overridden(
                (
                    *backend.precision(
                        precision, data=data or scheme.get("algorithm") in OBSERVING
                    ),
                    # Casts that the model had have become casts to the type that is there.
                    *(tidying() if precision in HALVES else ()),
                    *backend.legalization(),
                ),
                scheme,
                precision,
            ),
            # Layers that share weights had them packed one by one.
            *((DeduplicateInitializers(),) if precision == "int4" else ()),
        )
    )


def pipeline_for(
    backend: Backend,
    precision: str,
    pipeline: str | Pipeline | None,
    scheme: str | Mapping[str, object] | None,
    *,
    data: bool,
) -> Pipeline:
    """The pipeline that a user means: a given one, or the preset with the options of ``scheme``.

    Raises:
        UsageError: There is no such precision, pass or option, or a scheme beside a pipeline.
    """
    default = preset(backend, precision, data=data, scheme=parse_scheme(scheme))
    if pipeline is None:
        return default
    if scheme:
        raise UsageError("a scheme changes the preset; with a pipeline, write its options there")
    return pipeline if isinstance(pipeline, Pipeline) else Pipeline.parse(pipeline)


def parse_scheme(scheme: str | Mapping[str, object] | None) -> dict[str, str]:
    """Read ``block=128,algorithm=awq``; or the same as a mapping.

    Raises:
        UsageError: The text does not parse.
    """
    if isinstance(scheme, Mapping):
        return {
            key: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in scheme.items()
        }
    found: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in (scheme or "").split(","))):
        key, _, value = (word.strip() for word in part.partition("="))
        if not key or not value:
            raise UsageError(
                f"{part!r} is no option of a scheme; write OPTION=VALUE, as in block=128"
            )
        found[key] = value
    return found


def _overridden(
    steps: Sequence[Step], scheme: Mapping[str, str], precision: str
) -> tuple[Step, ...]:
    """``steps`` with the options of ``scheme`` in all passes of lower precision that have them."""
    passes = [step for step in steps if isinstance(step, Pass)]
    # What observes decides by numbers, too, though it may keep them.
    coarse = [
        a_pass
        for a_pass in passes
        if a_pass.preserves is Preserves.APPROXIMATE or type(a_pass).observes is not Pass.observes
    ]
    if scheme and precision == "fp32":
        raise UsageError("fp32 has no scheme: nothing is quantized; choose int4, for example")
    known = sorted({field.name for a_pass in coarse for field in dataclasses.fields(a_pass)})
    for key in scheme:
        if key not in known:
            raise UsageError(
                f"the scheme of {precision} has no option {key!r}{nearest(key, known)}; "
                f"known: {', '.join(known)}"
            )
    return tuple(
        _with(step, scheme) if isinstance(step, Pass) and step in coarse else step for step in steps
    )


def _with(a_pass: Pass, scheme: Mapping[str, str]) -> Pass:
    own = {field.name for field in dataclasses.fields(a_pass)}
    changes = {key: convert(type(a_pass), key, text) for key, text in scheme.items() if key in own}
    return dataclasses.replace(a_pass, **changes)


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
