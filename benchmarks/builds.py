"""Engines of TensorRT for RTX, built for several GPUs where none is: how long, how large.

``python -m benchmarks.builds`` prints the table and writes docs/benchmarks/builds.md.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np

import infopt
from benchmarks import peers
from benchmarks.models import CACHE, ZOO, Feeds
from benchmarks.report import DOCS, Page

GPUS = ("sm86", "sm89", "sm120")
METHOD = """\
Each model, as an ONNX file, is optimized for `tensorrt-rtx` and each GPU. *Build* is the time that
TensorRT takes in its own process, once; *plan* the size of what it returns. *Error* is the largest
`max|a-b| / max|b|` of the outputs, of the legalized model on the processor with optimizations off
against the original there. No engine was run: no GPU was at hand, and how fast an engine is was not
measured. Batch, and where there is one the sequence, are dynamic."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model, as a file."""

    name: str
    file: Callable[[Path], Path]
    shapes: tuple[str, ...]
    feeds: Callable[[int], Feeds]
    """Inputs for a batch size."""


_FREE = {"input_ids": "1..8x1..512@1x128", "pixel_values": "1..8x3x224x224@1x3x224x224"}
_FREE |= {"inputs": "1..8x3x224x224@1x3x224x224", "input_features": "1..8x80x3000@1x80x3000"}
_DETECTION = ("x=1..4x3x32..1280x32..1280@1x3x640x640",)
_DIRECTION = ("x=1..16x3x48x192@1x3x48x192",)


def subjects() -> Iterator[Subject]:
    """The models of the comparison with peers, and those that read text in pictures."""
    seen = set()
    for subject in peers.subjects():
        if subject.name in seen:  # another size of the same file
            continue
        seen.add(subject.name)
        shapes = tuple(f"{n}={_FREE[n]}" for n in subject.feeds(1) if n in _FREE)
        yield Subject(subject.name, subject.file, shapes, subject.feeds)
    for model in ZOO:
        if model.name.startswith("PP-OCR"):
            size = model.sizes[0]
            yield Subject(
                model.name,
                model.original,
                _DETECTION if "detection" in model.name else _DIRECTION,
                lambda n, m=model, s=size: m.feeds(n, s, np.random.default_rng(0)),  # type: ignore[misc]
            )


def measure(
    subject: Subject, precision: str, gpu: str, cache: Path, verify: bool
) -> dict[str, Any]:
    """Build one engine; where it is verified, also by how much it is off."""
    target = f"tensorrt-rtx:{gpu}"
    with tempfile.TemporaryDirectory() as room:
        engine = infopt.optimize(
            subject.file(cache),
            Path(room) / "engine",
            target=target,
            precision=precision,
            shapes=subject.shapes,
            data=[subject.feeds(n) for n in (1, 2)],
            verify=verify,
        )
    manifest = engine.manifest
    found = manifest.evidence["equivalence"]
    outputs = found["outputs"].values() if isinstance(found, Mapping) else ()
    return {
        "model": subject.name,
        "precision": precision,
        "gpu": gpu,
        "seconds": manifest.build["seconds"],
        "bytes": manifest.build["plan"]["bytes"],
        "weights": manifest.sizes["weights_after"],
        "layers": sum(manifest.build["network"].values()),
        "warnings": manifest.build["warnings"],
        "error": max((row["max_relative"] for row in outputs), default=None),
    }


def page(results: Mapping[str, Any]) -> Page:
    """The results as a table."""
    rows = results["rows"]
    header = ["Model", "Precision", "Weights, MB", "Layers parsed"]
    header += [f"Build {gpu}, s" for gpu in GPUS] + [f"Plan {gpu}, MB" for gpu in GPUS] + ["Error"]
    lines = []
    for first in rows[:: len(GPUS)]:
        own = [r for r in rows if all(r[key] == first[key] for key in ("model", "precision"))]
        error = next((r["error"] for r in own if r["error"] is not None), None)
        lines.append(
            [
                first["model"],
                first["precision"],
                f"{first['weights'] / 1e6:.1f}",
                f"{first['layers']:,}",
                *(f"{row['seconds']:.1f}" for row in own),
                *(f"{row['bytes'] / 1e6:.1f}" for row in own),
                "–" if error is None else f"{error:.0e}",
            ]
        )
    return Page(
        name="builds",
        title="Engines of TensorRT for RTX, built without a GPU",
        command="python -m benchmarks.builds",
        method=METHOD,
        tables=[("Builds", header, lines)],
        results=results,
        extra_versions=peers.versions("tensorrt-rtx-cu13-libs"),
    )


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--precision", multiple=True, default=("fp32",), show_default=True)
@click.option("--only", default="", help="Models whose name contains this; nothing is written.")
def main(cache: Path, output: Path, precision: tuple[str, ...], only: str) -> None:
    """Build every model for every GPU."""
    rows = []
    for subject in subjects():
        for kind in precision if only.lower() in subject.name.lower() else ():
            for gpu in GPUS:
                row = measure(subject, kind, gpu, cache, verify=gpu == GPUS[0])
                rows.append(row)
                click.echo(str(row))
    report = page({"rows": rows})
    report.print()
    if not only:
        report.write(output)


if __name__ == "__main__":
    main()
