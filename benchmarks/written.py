"""Inputs for models that read text: reviews in writing, with pictures behind them or without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks import data
from benchmarks.models import Feeds


def pages(
    batches: Sequence[int], seed: int, source: Sequence[np.ndarray] | None = None
) -> list[Feeds]:
    """Photographs, or crops of other pictures, of 640 pixels that reviews are written over."""
    rng = np.random.default_rng(seed)
    crops = data.crops(sum(batches), seed, source, size=640)
    return _batched([_written(crop, rng) for crop in crops], batches)


def lines(batches: Sequence[int], seed: int) -> list[Feeds]:
    """Lines of text of 48 by 192 pixels, every other one upside down."""
    rng = np.random.default_rng(seed)
    blank = np.full((3, 48, 192), 0.8, np.float32)
    straight = [_written(blank, rng, size=30) for _ in range(sum(batches))]
    turned = [line[:, ::-1, ::-1] if n % 2 else line for n, line in enumerate(straight)]
    return _batched(turned, batches)


def _batched(arrays: Sequence[np.ndarray], batches: Sequence[int]) -> list[Feeds]:
    starts = np.cumsum([0, *batches])
    return [
        {"x": np.ascontiguousarray(np.stack(arrays[start : start + batch]), np.float32)}
        for start, batch in zip(starts, batches, strict=False)
    ]


def _written(picture: np.ndarray, rng: np.random.Generator, size: int = 0) -> np.ndarray:
    """A picture, float32 (3, height, width) from -1 to 1, with reviews written over it.

    Args:
        picture: The picture.
        rng: Draws the reviews, and where they stand.
        size: Of the font, in pixels; by default each line has its own, and there are ten.
    """
    from PIL import Image, ImageDraw, ImageFont

    texts = data.sentences("amazonReviewSnippets")[0]
    pixels = ((picture.transpose(1, 2, 0) + 1) * 127.5).clip(0, 255).astype(np.uint8)
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    top = 6
    for _ in range(1 if size else 10):
        height = size or int(rng.integers(18, 44))
        text = texts[int(rng.integers(len(texts)))]
        left = 4 if size else int(rng.integers(4, image.width // 3))
        dark = size or rng.random() < 0.5
        draw.text(
            (left, top),
            text,
            fill=(10, 10, 20) if dark else (245, 245, 235),
            font=ImageFont.load_default(height),
        )
        top += height + 20
    return (np.asarray(image, np.float32) / 127.5 - 1).transpose(2, 0, 1)
