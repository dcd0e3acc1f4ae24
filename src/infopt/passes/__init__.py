"""The table of all passes: the word in a pipeline → the class."""

from __future__ import annotations

from infopt.passes.base import Pass
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
from infopt.passes.legalization.expand_operators import ExpandOperators
from infopt.passes.legalization.lower_attention import LowerAttention
from infopt.passes.legalization.lower_block_products import LowerBlockProducts
from infopt.passes.legalization.lower_gemm import LowerGemm
from infopt.passes.legalization.lower_group_normalization import LowerGroupNormalization
from infopt.passes.legalization.lower_quantized_products import LowerQuantizedProducts
from infopt.passes.legalization.lower_swish import LowerSwish
from infopt.passes.legalization.pad_products import PadProducts
from infopt.passes.legalization.plain_attention import PlainAttention
from infopt.passes.legalization.sink_biases import SinkBiases
from infopt.passes.legalization.unpack_projections import UnpackProjections
from infopt.passes.legalization.widen_operators import WidenOperators
from infopt.passes.precision.convert_bfloat16 import ConvertBfloat16
from infopt.passes.precision.convert_float16 import ConvertFloat16
from infopt.passes.quantization.correct_bias import CorrectBias
from infopt.passes.quantization.equalize_layers import EqualizeLayers
from infopt.passes.quantization.quantize_biases import QuantizeBiases
from infopt.passes.quantization.quantize_dynamic import QuantizeDynamic
from infopt.passes.quantization.quantize_float8 import QuantizeFloat8
from infopt.passes.quantization.quantize_static import QuantizeStatic
from infopt.passes.quantization.quantize_weights import QuantizeWeights
from infopt.passes.quantization.smooth_quant import SmoothQuant
from infopt.passes.quantization.transpose_integers import TransposeIntegers

_ALL: tuple[type[Pass], ...] = (
    InlineFunctions,
    LiftConstants,
    FoldConstants,
    SimplifyShapes,
    EliminateNoops,
    MergeChains,
    SimplifyEinsum,
    EliminateCommonSubexpressions,
    DeduplicateInitializers,
    EliminateDeadCode,
    FuseAttention,
    FuseRotaryEmbedding,
    FusePast,
    FuseCausal,
    FuseHeads,
    PackProjections,
    FuseGemm,
    SinkReshapes,
    FuseResidual,
    SinkBiases,
    UnpackProjections,
    LowerGemm,
    LowerBlockProducts,
    LowerGroupNormalization,
    LowerSwish,
    PadProducts,
    PlainAttention,
    WidenOperators,
    ExpandOperators,
    FuseGelu,
    FuseLayerNormalization,
    FuseRmsNormalization,
    FuseInstanceNormalization,
    FuseGroupNormalization,
    FuseSwish,
    FuseHardSwish,
    FuseMish,
    FuseBatchNormalization,
    FuseChannelAffine,
    FusePad,
    ConvertFloat16,
    ConvertBfloat16,
    QuantizeStatic,
    TransposeIntegers,
    QuantizeBiases,
    QuantizeDynamic,
    QuantizeFloat8,
    EqualizeLayers,
    SmoothQuant,
    CorrectBias,
    LowerQuantizedProducts,
    LowerAttention,
    QuantizeWeights,
)

PASSES: dict[str, type[Pass]] = {a_pass.name: a_pass for a_pass in _ALL}
