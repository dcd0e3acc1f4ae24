"""The models that infopt is compared with its peers on: file, module, inputs, data to calibrate on.

Like those of ``benchmarks.models``, which they extend by large ones with random weights, they
import nothing heavy before they are asked for: a peer's environment may lack most of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data, models, written
from benchmarks.models import ZOO, Feeds


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model, as an ONNX file and where there is one as a module, and its inputs."""

    name: str
    file: Callable[[Path], Path]
    """Where the ONNX file is, made if need be in the folder that is given."""
    feeds: Callable[[int, int, int], Feeds]
    """Inputs for (batch, size, seed)."""
    sizes: tuple[int, ...]
    """Sizes of what is dynamic beside the batch, the usual one first."""
    unit: str
    """What a size counts."""
    kind: str = ""
    """What ONNX Runtime's transformer optimizer is told; empty where there is no transformer."""
    module: Callable[[], Any] | None = None
    """The torch module that takes the inputs in their order; ``None`` where the model is a file."""
    config: Mapping[str, Any] | None = None
    """Its Hugging Face configuration, ``model_type`` included, where it has one."""
    calibration: Callable[[], Sequence[Feeds]] | None = None
    """Inputs to calibrate on; by default some of ``feeds``."""
    held_out: Callable[[], Sequence[Feeds]] | None = None
    """Inputs to judge on, none of them for calibration; by default others of ``feeds``."""
    metric: str = ""
    """What is told of the outputs beside their error: ``top-1``, ``embedding`` or nothing."""

    def samples(self) -> list[Feeds]:
        """What quantizers may calibrate on."""
        if self.calibration is not None:
            return list(self.calibration())
        return [self.feeds(2, self.sizes[0], 100 + seed) for seed in range(8)]

    def unseen(self) -> list[Feeds]:
        """What is judged on."""
        if self.held_out is not None:
            return list(self.held_out())
        return [self.feeds(2, self.sizes[0], 108 + seed) for seed in range(4)]

    def size(self, value: int) -> str:
        """A size in words."""
        return f"{value} {self.unit}"


def find(name: str) -> Subject:
    """The subject of this name."""
    return next(subject for subject in SUBJECTS if subject.name == name)


def _random(
    name: str,
    cls: str,
    feeds: Callable[[int, int, int], Feeds],
    sizes: tuple[int, ...],
    unit: str,
    kind: str,
    config: Mapping[str, Any] | None = None,
    *,
    model_type: str,
    part: str = "",
    file: str,
) -> Subject:
    """A model of ``transformers`` with random weights, exported once."""
    inputs = list(feeds(1, sizes[0], 0))

    def module() -> Any:
        import torch
        import transformers

        torch.manual_seed(0)
        built = getattr(transformers, cls)(getattr(transformers, cls).config_class(**config or {}))
        return _first(getattr(built, part) if part else built, inputs)

    def exported(cache: Path) -> Path:
        example = feeds(2, sizes[0] if len(sizes) == 1 else 16, 0)
        return models.once(cache / f"{file}.onnx", lambda path: _export(module(), example, path))

    return Subject(
        name,
        exported,
        feeds,
        sizes,
        unit,
        kind,
        module,
        {"model_type": model_type, **(config or {})},
    )


def _first(model: Any, names: list[str]) -> Any:
    """A module that takes tensors in the order of ``names`` and returns the first output."""
    import torch

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> Any:
            return self.model(**dict(zip(names, inputs, strict=True)))[0]

    return First().eval()


def _export(module: Any, feeds: Feeds, path: Path) -> None:
    import torch

    batch, sequence = torch.export.Dim("batch", max=64), torch.export.Dim("sequence", max=512)
    words = ("input_ids", "attention_mask")
    shapes = [{0: batch, 1: sequence} if name in words else {0: batch} for name in feeds]
    program = torch.onnx.export(
        module,
        tuple(torch.from_numpy(array) for array in feeds.values()),
        dynamo=True,
        input_names=list(feeds),
        dynamic_shapes={"inputs": tuple(shapes)},
        verbose=False,
    )
    assert program is not None
    program.save(str(path), external_data=False)


def _text(batch: int, length: int, seed: int) -> Feeds:
    rng = np.random.default_rng(seed)
    mask = np.ones((batch, length), np.int64)
    return {"input_ids": rng.integers(5, 1000, (batch, length)), "attention_mask": mask}


def _array(name: str, *shape: int) -> Callable[[int, int, int], Feeds]:
    def feeds(batch: int, size: int, seed: int) -> Feeds:
        del size
        rng = np.random.default_rng(seed)
        return {name: rng.normal(0, 1, (batch, *shape)).astype(np.float32)}

    return feeds


_IMAGE = _array("pixel_values", 3, 224, 224)
_SOUND = _array("input_features", 80, 3000)
_WHISPER = {
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 1,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
}
_LLAMA = {
    "hidden_size": 1024,
    "num_hidden_layers": 4,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "intermediate_size": 2816,
    "vocab_size": 1000,
    "use_cache": False,
}
_MINILM = {
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}


def _tweets(first: int, last: int) -> list[str]:
    """Of a shuffled order, always the same one."""
    texts, _ = data.sentences("tweets")
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[at] for at in order[first:last]]


def _ragged(first: int, last: int) -> list[Feeds]:
    """Tweets one at a time, nothing padded."""
    return data.tokens(_tweets(first, last), models.minilm(), 128)


def _joined(first: int, last: int, length: int) -> list[Feeds]:
    """Eight tweets as one text, cut at ``length`` tokens: one shape, and nothing padded."""
    texts = _tweets(first, last)
    joined = [" ".join(texts[at : at + 8]) for at in range(0, len(texts), 8)]
    return data.tokens(joined, models.minilm(), length)


def _photos() -> list[Feeds]:
    """Crops of the ten unlabelled photos, one at a time."""
    return [{"inputs": crop[None]} for crop in data.crops(40, seed=0)]


def _pictures() -> list[Feeds]:
    """Crops of twenty other pictures: those of the photos would be known to who calibrated."""
    crops = data.crops(100, seed=1, source=data.pictures())
    return [{"inputs": part} for part in np.split(crops, 5)]


def _other_pages() -> list[Feeds]:
    """Pages with other pictures behind them."""
    return written.pages((1,) * 8, 50, data.pictures())


def _from_zoo(name: str, **fields: Any) -> Subject:
    model = next(model for model in ZOO if model.name == name)

    def feeds(batch: int, size: int, seed: int) -> Feeds:
        return model.feeds(batch, size, np.random.default_rng(seed))

    return Subject(name, model.original, feeds, model.sizes[:1], model.unit, **fields)


SUBJECTS: tuple[Subject, ...] = (
    _random(
        "BERT-base",
        "BertModel",
        _text,
        (128, 32),
        "tokens",
        "bert",
        model_type="bert",
        file="bert-base-states",
    ),
    _random(
        "ViT-base",
        "ViTModel",
        _IMAGE,
        (224,),
        "pixels",
        "vit",
        model_type="vit",
        file="vit-base",
    ),
    _random(
        "ResNet-50",
        "ResNetModel",
        _IMAGE,
        (224,),
        "pixels",
        "",
        model_type="resnet",
        file="resnet-50",
    ),
    _random(
        "Whisper-base encoder",
        "WhisperModel",
        _SOUND,
        (30,),
        "s",
        "bart",
        _WHISPER,
        model_type="whisper",
        part="encoder",
        file="whisper-base",
    ),
    _random(
        "LLaMA, 4 layers",
        "LlamaModel",
        _text,
        (256, 64),
        "tokens",
        "gpt2",
        _LLAMA,
        model_type="llama",
        file="llama-4",
    ),
    dataclasses.replace(
        _from_zoo("MiniLM-L6", kind="bert", config=_MINILM, metric="embedding"),
        sizes=(64, 128),
        module=models.minilm_module,
        calibration=functools.partial(_ragged, 0, 100),
        held_out=functools.partial(_joined, 3400, 4200, 64),
    ),
    _from_zoo(
        "EfficientNet-lite0",
        module=models.efficientnet_lite0,
        calibration=_photos,
        held_out=_pictures,
        metric="top-1",
    ),
    _from_zoo(
        "PP-OCRv4 detection",
        calibration=functools.partial(written.pages, (1,) * 16, 0),
        held_out=_other_pages,
    ),
    _from_zoo(
        "PP-OCR direction",
        calibration=functools.partial(written.lines, (1,) * 32, 0),
        held_out=functools.partial(written.lines, (50,) * 4, 50),
        metric="top-1",
    ),
    _from_zoo("Silero VAD"),
)
"""The models of the comparison with peers."""
