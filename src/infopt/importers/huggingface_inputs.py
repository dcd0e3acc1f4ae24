"""The inputs of a transformers model: their names, dynamic dimensions, and realistic samples."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infopt.errors import ImportFailed, SourceError
from infopt.importers.dimensions import Dims
from infopt.importers.sniff import read_json
from infopt.importers.torch_export import preserved

if TYPE_CHECKING:
    import torch

SEED = 0
SEQUENCES = (16, 33)
"""Lengths of the sampled texts; two, so that none can hide in the graph as a constant."""
IMAGE_SIZE = 224
"""Where nothing in the directory says it."""

Sample = dict[str, "torch.Tensor"]


@dataclasses.dataclass(frozen=True)
class Plan:
    """How to call a model."""

    samples: list[Sample]
    """At least two, of different sizes; the first is the one to export with."""
    dims: Dims


def plan(model: Any, directory: Path) -> Plan:
    """How to call ``model``.

    Raises:
        ImportFailed: It takes neither text nor images.
        SourceError: The configuration makes no sense.
    """
    import torch

    name = type(model).__name__
    parameters = inspect.signature(model.forward).parameters
    generator = torch.Generator().manual_seed(SEED)
    text = "input_ids" in parameters
    image = "pixel_values" in parameters
    if not text and not image:
        raise ImportFailed(
            f"{name} takes {model.main_input_name}; infopt imports models of text and of images"
        )
    dims: Dims = {}
    samples: list[Sample] = [{}, {}]
    try:
        if text:
            texts = _texts(model, generator)
            for sample, batch in zip(samples, texts, strict=True):
                sample.update(batch)
            batch_name = "text_batch" if image else "batch"
            dims |= {key: {0: batch_name, 1: "sequence"} for key in texts[0]}
        if image:
            height, width, channels = _image_size(model, directory)
            for sample, size in zip(samples, (2, 1), strict=True):
                shape = (size, channels, height, width)
                sample["pixel_values"] = torch.randn(shape, generator=generator)
            dims["pixel_values"] = {0: "image_batch" if text else "batch"}
            if not text and _takes_any_size(model, samples[1]["pixel_values"]):
                dims["pixel_values"] |= {2: "height", 3: "width"}
                samples[0] = {"pixel_values": _larger(samples[0]["pixel_values"])}
    except (TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise SourceError(
            f"the configuration of {name} in {directory} makes no sense: {error}"
        ) from None
    return Plan(samples, dims)


def _texts(model: Any, generator: torch.Generator) -> list[Sample]:
    """A batch of two texts of different lengths, and one text that fills its row."""
    import torch

    config = getattr(model.config, "text_config", model.config)
    parameters = inspect.signature(model.forward).parameters
    vocabulary = int(config.vocab_size)
    padding = getattr(config, "pad_token_id", None) or 0
    positions = getattr(config, "max_position_embeddings", None) or max(SEQUENCES)
    # RoBERTa counts positions from behind its padding token, which has a small number.
    longest = positions - padding - 1 if padding + 1 < positions else positions
    samples = []
    for batch, wanted in zip((2, 1), SEQUENCES, strict=True):
        length = min(wanted, longest)
        mask = torch.ones(batch, length, dtype=torch.int64)
        mask[1:, (2 * length + 2) // 3 :] = 0
        tokens = torch.randint(0, vocabulary, (batch, length), generator=generator)
        # The padding token stands behind the end of a text only: some models count by it.
        tokens[tokens == padding] = (padding + 1) % vocabulary
        sample = {"input_ids": tokens.where(mask.bool(), torch.tensor(padding % vocabulary))}
        _end_of_text(config, sample["input_ids"], mask)
        if "attention_mask" in parameters:
            sample["attention_mask"] = mask
        if "token_type_ids" in parameters and (getattr(config, "type_vocab_size", 0) or 0) > 1:
            second = torch.arange(length) >= length // 2
            sample["token_type_ids"] = second.long().expand(batch, length) * mask
        samples.append(sample)
    return samples


def _end_of_text(config: Any, tokens: torch.Tensor, mask: torch.Tensor) -> None:
    """Put the end-of-text token where a text ends: some models pool there."""
    end = getattr(config, "eos_token_id", None)
    if isinstance(end, int) and 0 <= end < config.vocab_size:
        for row, length in enumerate(mask.sum(1).tolist()):
            tokens[row, length - 1] = end


def _image_size(model: Any, directory: Path) -> tuple[int, int, int]:
    """Height, width and channels: from the configuration, else from the image processor's."""
    config = getattr(model.config, "vision_config", model.config)
    size: object = getattr(config, "image_size", None)
    if size is None and (directory / "preprocessor_config.json").exists():
        processor = read_json(directory / "preprocessor_config.json")
        size = processor.get("crop_size") or processor.get("size")
    if isinstance(size, dict):
        edge = size.get("shortest_edge")
        size = [size.get("height", edge), size.get("width", edge)]
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = getattr(config, "num_channels", None) or 3
    return int(height or IMAGE_SIZE), int(width or IMAGE_SIZE), int(channels)


def _larger(pixels: torch.Tensor) -> torch.Tensor:
    """Images larger by a quarter in height and by half in width, in steps of 32."""
    import torch

    *_, height, width = pixels.shape
    tall = torch.cat([pixels, pixels.flip(2)], 2)[:, :, : height + max(height // 128, 1) * 32]
    wide = torch.cat([tall, tall.flip(3)], 3)[:, :, :, : width + max(width // 64, 1) * 32]
    return wide.contiguous()


def _takes_any_size(model: Any, pixels: torch.Tensor) -> bool:
    """Whether the model is made for images of any size, and computes something on a larger one.

    A model that knows its ``image_size`` may compute something on others too, but by branches
    that an export cannot keep: DINOv2 interpolates its positions, Swin pads to whole windows.
    """
    import torch

    if getattr(model.config, "image_size", None) is not None:
        return False
    with preserved(model), torch.no_grad():
        model.eval()
        try:
            model(pixel_values=_larger(pixels))
        except (ValueError, RuntimeError, IndexError):
            return False
    return True
