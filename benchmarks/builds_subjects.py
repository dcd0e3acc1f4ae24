"""The models of benchmarks/builds.py, and inputs for them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks import data, written
from benchmarks import subjects as subjects_
from benchmarks.models import ZOO, Feeds, minilm

_TRANSFORMERS = ("BERT-base", "ViT-base", "Whisper-base encoder", "LLaMA, 4 layers", "MiniLM-L6")
_FREE = {"input_ids": "1..8x1..512@1x128", "pixel_values": "1..8x3x224x224@1x3x224x224"}
_FREE |= {"inputs": "1..8x3x224x224@1x3x224x224", "input_features": "1..8x80x3000@1x80x3000"}
_DETECTION = "x=1..4x3x32..1280x32..1280@1x3x640x640"
_DIRECTION = "x=1..16x3x48x192@1x3x48x192"


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model, as a file."""

    name: str
    file: Callable[[Path], Path]
    shapes: tuple[str, ...]
    calibration: Callable[[], Sequence[Feeds]]
    """Inputs to calibrate on."""
    judged: Callable[[], Sequence[Feeds]]
    """Other inputs to compare on, of several batch sizes."""
    transformer: bool


def subjects() -> Iterator[Subject]:
    """The models of the comparison with peers, and those that read text in pictures."""
    real = {
        "MiniLM-L6": (_tweets, _reviews),
        "EfficientNet-lite0": (_photographs, _other_photographs),
    }
    for subject in subjects_.SUBJECTS:
        if subject.module is None:  # those that read text follow; Silero VAD is not for TensorRT
            continue
        feeds = functools.partial(_first_size, subject)
        calibration, judged = real.get(
            subject.name,
            (
                functools.partial(_synthetic, feeds, (2,) * 8, 0),
                functools.partial(_synthetic, feeds, (1, 2), 50),
            ),
        )
        yield Subject(
            subject.name,
            subject.file,
            tuple(f"{name}={_FREE[name]}" for name in feeds(1) if name in _FREE),
            calibration,
            judged,
            subject.name in _TRANSFORMERS,
        )
    for model in ZOO:
        if model.name.startswith("PP-OCR"):
            finds = "detection" in model.name
            make = written.pages if finds else written.lines
            yield Subject(
                model.name,
                model.original,
                (_DETECTION if finds else _DIRECTION,),
                functools.partial(make, (1,) * 16, 0),
                functools.partial(make, (1, 1, 2), 50),
                transformer=False,
            )


def _first_size(subject: subjects_.Subject, batch: int) -> Feeds:
    """Inputs of the usual size."""
    return subject.feeds(batch, subject.sizes[0], 0)


def _synthetic(make: Callable[[int], Feeds], batches: Sequence[int], seed: int) -> list[Feeds]:
    """Noise, and random tokens, of the shapes that ``make`` gives for each batch size."""
    found = []
    for number, batch in enumerate(batches):
        rng = np.random.default_rng(seed + number)
        found.append(
            {
                name: rng.normal(0, 1, array.shape).astype(np.float32)
                if array.dtype == np.float32
                else (rng.integers(5, 1000, array.shape) if name == "input_ids" else array)
                for name, array in make(batch).items()
            }
        )
    return found


def _tweets() -> list[Feeds]:
    # As many as SmoothQuant asks for: it wants to have seen 2,048 tokens.
    return data.tokens(data.sentences("tweets")[0][:200], minilm(), 128)


def _reviews() -> list[Feeds]:
    """Amazon reviews one by one, and two that are padded to one length."""
    found = data.tokens(data.sentences("amazonReviewSnippets")[0][:6], minilm(), 128)
    length = max(sample["input_ids"].shape[1] for sample in found[:2])
    together = {
        name: np.concatenate(
            [np.pad(s[name], ((0, 0), (0, length - s[name].shape[1]))) for s in found[:2]]
        )
        for name in found[0]
    }
    return [*found, together]


def _photographs() -> list[Feeds]:
    return [{"inputs": crop[None]} for crop in data.crops(40, seed=0)]


def _other_photographs() -> list[Feeds]:
    crops = data.crops(8, seed=1)
    return [{"inputs": crops[:1]}, {"inputs": crops}]
