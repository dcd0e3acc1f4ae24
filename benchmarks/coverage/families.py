"""The model families of the coverage matrix, and what raising is expected to find in each.

Every model has its real architecture at a small size, two layers (two stages where a model has
stages) and seeded random weights of realistic scale. The expected counts follow from reading the
architecture: they are what a person would write down, not what infopt finds.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LAYERS = 2
HIDDEN, HEADS, GROUPS, INNER, VOCABULARY = 64, 4, 2, 128, 100

Inputs = dict[str, "torch.Tensor"]
Expected = Mapping[str, int]

FOLDED = "Conv+BatchNormalization"
"""The site of a BatchNormalization that goes into the weights of the convolution before it."""

KEPT = "Attention+past"
"""The site of an Attention that takes the keys and values of former calls, and returns them."""

PAST = "past_"
"""How the names of these keys and values begin."""


@dataclasses.dataclass(frozen=True)
class Family:
    """One row of the matrix."""

    name: str
    model: str
    """Class in ``transformers``; after a dot the part of it that is exported."""
    config: Mapping[str, Any]
    expected: Expected
    """Operator → how many sites, in the whole model."""
    kind: str = "text"
    """Which inputs the model takes: a key of :data:`INPUTS`."""
    masked: bool = True
    """Whether it takes a padding mask."""
    attentions: tuple[str, ...] = ("eager", "sdpa")
    """Its implementations of attention; ``("none",)`` where it has no attention."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """One export of a family."""

    family: Family
    exporter: str
    """``dynamo`` or ``torchscript``."""
    attention: str
    mask: bool

    @property
    def name(self) -> str:
        """The name of the cell, which is also that of its file."""
        mask = "mask" if self.mask else "plain"
        return f"{self.family.name}-{self.exporter}-{self.attention}-{mask}"


def cells(family: Family) -> list[Cell]:
    """The cells of a family, in the order of the page."""
    masks = (True, False) if family.masked else (False,)
    return [
        Cell(family, exporter, attention, mask)
        for exporter in ("dynamo", "torchscript")
        for attention in family.attentions
        for mask in masks
    ]


def find(name: str) -> Cell:
    """The cell of this name."""
    return next(cell for family in FAMILIES for cell in cells(family) if cell.name == name)


def build(family: Family, attention: str) -> torch.nn.Module:
    """The model, in evaluation mode, with weights that depend on nothing but the family."""
    import torch
    import transformers

    name, _, part = family.model.partition(".")
    cls = getattr(transformers, name)
    config = cls.config_class(**family.config)
    torch.manual_seed(0)
    model: torch.nn.Module
    if attention == "none":
        model = cls(config)
    else:
        model = cls._from_config(config, attn_implementation=attention)
    for parameter_name, parameter in sorted(model.named_parameters()):
        # Ones and zeros would vanish before anything is raised, as no trained model's do.
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
        elif "embed" in parameter_name:
            parameter.data.normal_(0.0, 0.5)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for statistic, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
            ):
                assert statistic is not None
                statistic.uniform_(low, high)
    for step in filter(None, part.split(".")):
        model = getattr(model, step)
    return model.eval()


def _tokens(batch: int, length: int) -> torch.Tensor:
    import torch

    return torch.randint(3, VOCABULARY, (batch, length))


def _mask(batch: int, length: int, left: bool) -> torch.Tensor:
    import torch

    mask = torch.ones(batch, length, dtype=torch.int64)
    if left:
        mask[-1, : length // 3] = 0
    else:
        mask[-1, -(length // 3) :] = 0
    return mask


def _states(batch: int, length: int) -> torch.Tensor:
    import torch

    return torch.randn(batch, length, HIDDEN)


def _text(batch: int, length: int, *, mask: bool, left: bool) -> Inputs:
    inputs = {"input_ids": _tokens(batch, length)}
    if mask:
        inputs["attention_mask"] = _mask(batch, length, left)
    return inputs


def _decoder(batch: int, length: int, *, mask: bool, left: bool) -> Inputs:
    return {
        **_text(batch, length, mask=mask, left=left),
        "encoder_hidden_states": _states(batch, length + LONGER),
    }


def _pair(batch: int, length: int, *, mask: bool, left: bool) -> Inputs:
    inputs = _text(batch, length, mask=mask, left=left)
    return {**inputs, "decoder_input_ids": _tokens(batch, length + LONGER)}


def _image(batch: int, length: int, *, mask: bool, left: bool) -> Inputs:
    del length, mask, left
    import torch

    return {"pixel_values": torch.randn(batch, 3, 64, 64)}


def _sound(batch: int, length: int, *, mask: bool, left: bool) -> Inputs:
    del length, mask, left
    import torch

    return {"input_features": torch.randn(batch, 16, 64)}


def _cached(batch: int, length: int, *, mask: bool, left: bool, heads: int = HEADS) -> Inputs:
    """New tokens behind half as many former ones; the mask is for both."""
    import torch

    former = length // 2
    inputs = {"input_ids": _tokens(batch, length)}
    if mask:
        inputs["attention_mask"] = _mask(batch, former + length, left)
    for layer in range(LAYERS):
        for name in ("key", "value"):
            shape = batch, heads, former, HIDDEN // HEADS
            inputs[f"{PAST}{name}_{layer}"] = torch.randn(*shape)
    return inputs


INPUTS: dict[str, Callable[..., Inputs]] = {
    "text": _text,
    "cached": _cached,
    "grouped-cached": functools.partial(_cached, heads=GROUPS),
    "decoder": _decoder,
    "pair": _pair,
    "image": _image,
    "sound": _sound,
}

SEQUENCES = {
    "input_ids": "sequence",
    "attention_mask": "sequence",
    "encoder_hidden_states": "source",
    "decoder_input_ids": "target",
}
"""Inputs whose second axis is a sequence of any length, and what that length is called."""

LONGER = 5
"""By how much the second sequence is longer: cross attention must not take one for the other."""


def _bert_like(model: str, name: str, **more: Any) -> Family:
    config = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INNER,
        "vocab_size": VOCABULARY,
        "initializer_range": 0.2,
        **more,
    }
    expected = {"Attention": LAYERS, "LayerNormalization": 1 + 2 * LAYERS, "Gelu": LAYERS}
    return Family(name, model, config, expected)


def _llama_like(
    model: str,
    name: str,
    norms: int = 2,
    act: str = "Swish",
    attentions: tuple[str, ...] = ("eager", "sdpa"),
    **more: Any,
) -> Family:
    config = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": GROUPS,
        "head_dim": HIDDEN // HEADS,
        "intermediate_size": INNER,
        "vocab_size": VOCABULARY,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "use_cache": False,
        **more,
    }
    expected = {
        "Attention": LAYERS,
        "RotaryEmbedding": 2 * LAYERS,
        "RMSNormalization": 1 + norms * LAYERS,
        act: LAYERS,
    }
    return Family(name, model, config, expected, attentions=attentions)


def _with_cache(family: Family, kind: str) -> Family:
    """The same behind tokens whose keys and values are kept."""
    expected = {**family.expected, KEPT: LAYERS}
    return dataclasses.replace(family, name=f"{family.name}-cached", kind=kind, expected=expected)


_T5 = {
    "d_model": HIDDEN,
    "d_kv": HIDDEN // HEADS,
    "d_ff": INNER,
    "num_layers": LAYERS,
    "num_decoder_layers": LAYERS,
    "num_heads": HEADS,
    "vocab_size": VOCABULARY,
    "feed_forward_proj": "gated-gelu",
    "use_cache": False,
}
_SEQ2SEQ = {
    "d_model": HIDDEN,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": INNER,
    "decoder_ffn_dim": INNER,
    "vocab_size": VOCABULARY,
    "init_std": 0.2,
    "use_cache": False,
}
_WHISPER = {
    **_SEQ2SEQ,
    "num_mel_bins": 16,
    "max_source_positions": 32,
    "max_target_positions": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
_TOWER = {
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "initializer_range": 0.2,
}
_PATCHES = {**_TOWER, "image_size": 64, "patch_size": 16}
_VIT = {"Attention": LAYERS, "LayerNormalization": 1 + 2 * LAYERS, "Gelu": LAYERS}

_GPT2 = Family(
    "gpt2",
    "GPT2Model",
    {
        "n_embd": HIDDEN,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_positions": 128,
        "vocab_size": VOCABULARY,
        "initializer_range": 0.2,
        "use_cache": False,
    },
    {"Attention": LAYERS, "LayerNormalization": 1 + 2 * LAYERS, "Gelu": LAYERS},
)
_GPTJ = Family(
    "gptj",
    "GPTJModel",
    {
        "n_embd": HIDDEN,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_positions": 128,
        "rotary_dim": 8,
        "vocab_size": VOCABULARY,
        "initializer_range": 0.2,
        "use_cache": False,
    },
    {
        "Attention": LAYERS,
        "RotaryEmbedding": 2 * LAYERS,
        "LayerNormalization": 1 + LAYERS,
        "Gelu": LAYERS,
    },
    attentions=("eager",),
)
_LLAMA = _llama_like("LlamaModel", "llama")

FAMILIES: tuple[Family, ...] = (
    _bert_like("BertModel", "bert"),
    _bert_like("RobertaModel", "roberta", pad_token_id=1, max_position_embeddings=130),
    Family(
        "distilbert",
        "DistilBertModel",
        {
            "dim": HIDDEN,
            "n_layers": LAYERS,
            "n_heads": HEADS,
            "hidden_dim": INNER,
            "vocab_size": VOCABULARY,
            "initializer_range": 0.2,
        },
        {"Attention": LAYERS, "LayerNormalization": 1 + 2 * LAYERS, "Gelu": LAYERS},
    ),
    Family(
        "modernbert",
        "ModernBertModel",
        {
            **_TOWER,
            "vocab_size": VOCABULARY,
            "pad_token_id": 0,
            "global_attn_every_n_layers": 2,
            "local_attention": 8,
            "reference_compile": False,
        },
        {
            "Attention": LAYERS,
            "RotaryEmbedding": 2 * LAYERS,
            # the embeddings, two a layer but for the first attention, and the last one
            "LayerNormalization": 1 + 2 * LAYERS,
            "Gelu": LAYERS,
        },
    ),
    Family(
        "deberta-v2",
        "DebertaV2Model",
        {
            **_TOWER,
            "vocab_size": VOCABULARY,
            "relative_attention": True,
            "position_buckets": 16,
            "max_relative_positions": -1,
            "max_position_embeddings": 64,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "type_vocab_size": 0,
        },
        {"Attention": LAYERS, "LayerNormalization": 1 + 2 * LAYERS, "Gelu": LAYERS},
        attentions=("eager",),
    ),
    Family(
        "t5-encoder",
        "T5EncoderModel",
        _T5,
        {"Attention": LAYERS, "RMSNormalization": 1 + 2 * LAYERS, "Gelu": LAYERS},
    ),
    Family(
        "t5-decoder",
        "T5Model.decoder",
        _T5,
        {"Attention": 2 * LAYERS, "RMSNormalization": 1 + 3 * LAYERS, "Gelu": LAYERS},
        kind="decoder",
    ),
    Family(
        "bart",
        "BartModel",
        _SEQ2SEQ,
        {"Attention": 3 * LAYERS, "LayerNormalization": 2 + 5 * LAYERS, "Gelu": 2 * LAYERS},
        kind="pair",
    ),
    Family(
        "whisper-encoder",
        "WhisperModel.encoder",
        _WHISPER,
        # two more behind the convolutions
        {"Attention": LAYERS, "LayerNormalization": 1 + 2 * LAYERS, "Gelu": 2 + LAYERS},
        kind="sound",
        masked=False,
    ),
    Family(
        "whisper-decoder",
        "WhisperModel.decoder",
        _WHISPER,
        {"Attention": 2 * LAYERS, "LayerNormalization": 1 + 3 * LAYERS, "Gelu": LAYERS},
        kind="decoder",
    ),
    Family(
        "clip-text",
        "CLIPTextModel",
        {**_TOWER, "vocab_size": VOCABULARY, "eos_token_id": 2},
        {"Attention": LAYERS, "LayerNormalization": 1 + 2 * LAYERS, "Swish": LAYERS},
    ),
    Family(
        "clip-vision",
        "CLIPVisionModel",
        _PATCHES,
        {"Attention": LAYERS, "LayerNormalization": 1 + 2 * LAYERS, "Swish": LAYERS},
        kind="image",
        masked=False,
    ),
    Family("vit", "ViTModel", _PATCHES, _VIT, kind="image", masked=False),
    Family("deit", "DeiTModel", _PATCHES, _VIT, kind="image", masked=False),
    Family(
        "swin",
        "SwinModel",
        {
            "image_size": 64,
            "patch_size": 4,
            "embed_dim": 32,
            "depths": [2, 2],
            "num_heads": [2, 4],
            "window_size": 4,
            "initializer_range": 0.2,
        },
        # the embeddings, two a block, the merging between the stages, the last one
        {"Attention": 4, "LayerNormalization": 1 + 2 * 4 + 1 + 1, "Gelu": 4},
        kind="image",
        masked=False,
    ),
    Family(
        "beit",
        "BeitModel",
        {**_PATCHES, "use_relative_position_bias": True, "use_mean_pooling": True},
        {"Attention": LAYERS, "LayerNormalization": 2 * LAYERS, "Gelu": LAYERS},
        kind="image",
        masked=False,
    ),
    Family(
        "segformer",
        "SegformerModel",
        {
            "num_encoder_blocks": 2,
            "depths": [1, 1],
            "hidden_sizes": [32, HIDDEN],
            "num_attention_heads": [1, 2],
            "sr_ratios": [2, 1],
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "mlp_ratios": [2, 2],
            "initializer_range": 0.2,
        },
        # the embeddings of each stage, two a block, the reduced keys, the end of each stage
        {"Attention": 2, "LayerNormalization": 2 + 4 + 1 + 2, "Gelu": 2},
        kind="image",
        masked=False,
    ),
    Family(
        "convnext",
        "ConvNextModel",
        {"num_stages": 2, "depths": [2, 2], "hidden_sizes": [32, HIDDEN], "initializer_range": 0.2},
        # the embeddings, one a block, the one before the second stage
        {"LayerNormalization": 1 + 4 + 1, "Gelu": 4},
        kind="image",
        masked=False,
        attentions=("none",),
    ),
    Family(
        "resnet",
        "ResNetModel",
        {"depths": [2, 2], "hidden_sizes": [32, HIDDEN], "embedding_size": 16},
        # the stem, three a bottleneck, the two shortcuts
        {FOLDED: 1 + 3 * 4 + 2},
        kind="image",
        masked=False,
        attentions=("none",),
    ),
    Family(
        "mobilenet-v2",
        "MobileNetV2Model",
        {"depth_multiplier": 0.35},
        # 17 blocks of three; stem, first block's two, the last convolution
        {FOLDED: 52},
        kind="image",
        masked=False,
        attentions=("none",),
    ),
    Family(
        "efficientnet",
        "EfficientNetModel",
        {
            "width_coefficient": 1.0,
            "in_channels": [32, 16],
            "out_channels": [16, 24],
            "depthwise_padding": [],
            "kernel_sizes": [3, 5],
            "strides": [1, 2],
            "num_block_repeats": [1, 2],
            "expand_ratios": [1, 6],
            "squeeze_expansion_ratio": 0.25,
            "hidden_dim": 1280,
            "image_size": 64,
        },
        # stem and top; a block has an expansion (but for the first), a depthwise convolution and
        # a projection; the squeeze has an activation of its own
        {FOLDED: 2 + 2 + 2 * 3, "Swish": 2 + (1 + 1) + 2 * 3},
        kind="image",
        masked=False,
        attentions=("none",),
    ),
    _GPT2,
    _with_cache(_GPT2, "cached"),
    _LLAMA,
    _with_cache(_LLAMA, "grouped-cached"),
    _llama_like("Qwen2Model", "qwen2"),
    _llama_like("Qwen3Model", "qwen3", norms=4),
    _llama_like("MistralModel", "mistral", sliding_window=6),
    _llama_like(
        "Gemma2Model",
        "gemma2",
        norms=4,
        act="Gelu",
        hidden_activation="gelu_pytorch_tanh",
        query_pre_attn_scalar=HIDDEN // HEADS,
        sliding_window=6,
        attentions=("eager",),
    ),
    Family(
        "phi",
        "PhiModel",
        {
            **_TOWER,
            "vocab_size": VOCABULARY,
            "partial_rotary_factor": 0.5,
            "pad_token_id": 0,
            "use_cache": False,
        },
        {
            "Attention": LAYERS,
            "RotaryEmbedding": 2 * LAYERS,
            "LayerNormalization": 1 + LAYERS,
            "Gelu": LAYERS,
        },
    ),
    Family(
        "opt",
        "OPTModel",
        {
            "hidden_size": HIDDEN,
            "word_embed_proj_dim": HIDDEN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "ffn_dim": INNER,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 128,
            "init_std": 0.2,
            "use_cache": False,
        },
        {"Attention": LAYERS, "LayerNormalization": 1 + 2 * LAYERS},
    ),
    Family(
        "falcon",
        "FalconModel",
        {
            "hidden_size": HIDDEN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS,
            "vocab_size": VOCABULARY,
            "initializer_range": 0.2,
            "multi_query": True,
            "parallel_attn": True,
            "new_decoder_architecture": False,
            "alibi": False,
            "use_cache": False,
        },
        {
            "Attention": LAYERS,
            "RotaryEmbedding": 2 * LAYERS,
            "LayerNormalization": 1 + LAYERS,
            "Gelu": LAYERS,
        },
    ),
    _GPTJ,
    dataclasses.replace(_GPTJ, name="codegen", model="CodeGenModel"),
    Family(
        "cohere",
        "CohereModel",
        {
            **_TOWER,
            "num_key_value_heads": GROUPS,
            "vocab_size": VOCABULARY,
            "pad_token_id": 0,
            "use_cache": False,
        },
        {
            "Attention": LAYERS,
            "RotaryEmbedding": 2 * LAYERS,
            "LayerNormalization": 1 + LAYERS,
            "Swish": LAYERS,
        },
    ),
    _llama_like(
        "GlmModel",
        "glm",
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
        },
    ),
)
