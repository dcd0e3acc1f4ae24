"""What the GPU benchmark runs: modules of torch, and the ONNX files that are exported of them."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.models import Feeds, efficientnet_lite0, minilm, once

BATCHES = (1, 8, 32)


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model at one size; its batch is free."""

    name: str
    size: str
    """What is fixed, in words."""
    make: Callable[[], Any]
    """The module, at fp32 on the processor."""
    feeds: Callable[[int, int], Feeds]
    """Inputs for (batch, seed)."""
    transformer: bool = True
    """Whether it is one: fp8 has kernels for these."""

    def module(self) -> Any:
        """A module that takes the inputs in their order, and returns the first output."""
        return copy.deepcopy(_made(self))

    def file(self, cache: Path) -> Path:
        """The ONNX file that torch's exporter writes, made once."""
        path = cache / "gpu" / f"{self.name.lower().replace(' ', '-')}.onnx"
        return once(path, lambda to: _export(self.module(), self.feeds(2, 0), to))


@functools.lru_cache(maxsize=1)
def _made(subject: Subject) -> Any:
    """The module, which takes seconds to make; callers change copies of it."""
    return _first_of(subject.make(), list(subject.feeds(1, 0))).eval()


def _first_of(model: Any, names: list[str]) -> Any:
    import torch

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            found = self.model(**dict(zip(names, inputs, strict=True)))
            return found if isinstance(found, torch.Tensor) else found[0]

    return First()


def _export(module: Any, feeds: Feeds, path: Path) -> None:
    import torch

    from benchmarks.sessions import quiet

    batch = torch.export.Dim("batch", max=64)
    with quiet():
        program = torch.onnx.export(
            module,
            tuple(torch.from_numpy(array) for array in feeds.values()),
            dynamo=True,
            input_names=list(feeds),
            output_names=["output"],
            dynamic_shapes={"inputs": tuple({0: batch} for _ in feeds)},
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)


def _configured(
    model: str, config: Mapping[str, Any] | None = None, part: str = ""
) -> Callable[[], Any]:
    """A model of ``transformers`` with random weights."""

    def make() -> Any:
        import torch
        import transformers

        torch.manual_seed(0)
        cls = getattr(transformers, model)
        built = cls(cls.config_class(**(config or {})))
        return getattr(built, part) if part else built

    return make


def _minilm() -> Any:
    from transformers import AutoModel

    return AutoModel.from_pretrained(minilm())


def _text(batch: int, seed: int, *, length: int = 128) -> Feeds:
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 1000, (batch, length))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def _array(batch: int, seed: int, *, name: str, shape: tuple[int, ...]) -> Feeds:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 1, (batch, *shape)).astype(np.float32)}


_PICTURE = (3, 224, 224)
_PIXELS = functools.partial(_array, name="pixel_values", shape=_PICTURE)
_LARGE: Mapping[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
_WHISPER: Mapping[str, Any] = {
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 1,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
}


def subjects() -> Iterator[Subject]:
    """The models, the small ones first: where time is short, more of them are measured."""
    yield Subject("MiniLM-L6", "128 tokens", _minilm, _text)
    yield Subject(
        "EfficientNet-lite0",
        "224 pixels",
        efficientnet_lite0,
        functools.partial(_array, name="inputs", shape=_PICTURE),
        transformer=False,
    )
    yield Subject("ResNet-50", "224 pixels", _configured("ResNetModel"), _PIXELS, transformer=False)
    sound = functools.partial(_array, name="input_features", shape=(80, 3000))
    whisper = _configured("WhisperModel", _WHISPER, "encoder")
    yield Subject("Whisper-base encoder", "30 s", whisper, sound)
    yield Subject("BERT-base", "128 tokens", _configured("BertModel"), _text)
    yield Subject("ViT-base", "224 pixels", _configured("ViTModel"), _PIXELS)
    yield Subject("BERT-large", "128 tokens", _configured("BertModel", _LARGE), _text)
