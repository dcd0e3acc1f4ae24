"""Engines of TensorRT for RTX, built where no GPU is: how large, how long, how exact.

``python -m benchmarks.builds`` prints the tables and writes docs/benchmarks/builds.md, model by
model: what was built before an interruption is there.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

import infopt
from benchmarks.builds_subjects import Subject, subjects
from benchmarks.models import CACHE
from benchmarks.report import DOCS, Page, versions
from infopt.backends import backend_for
from infopt.backends.base import RunOptions
from infopt.engine import Engine
from infopt.errors import InfoptError
from infopt.events import ignore
from infopt.evidence.equivalence import Budget
from infopt.evidence.extents import profiles_of
from infopt.ir import files
from infopt.target import parse_target
from infopt.verification import BUDGETS

GPUS = ("sm86", "sm89", "sm120")
FLOAT8_GPUS = ("sm89", "sm120")
"""Those that multiply 8-bit floats."""
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8", "int4")
_FOR_TRANSFORMERS = ("fp8", "int4")

METHOD = """\
Each model, as an ONNX file, is optimized for `tensorrt-rtx` at each precision, once; of the result
an engine is built for each GPU. *Build* is the time that TensorRT takes in its own process, once,
beside other work: its order of magnitude. *Plan* is the size of what it returns. Batch, and where
there is one the sequence (of PP-OCR's detection height and width), are dynamic. No engine was run:
no GPU was at hand, and how fast an engine is was not measured.

*Error* is the largest `max|a-b| / max|b|` of the outputs and *SQNR* the least signal-to-noise ratio
of one, of the legalized model on the processor with optimizations off against the original there,
on inputs that nothing was calibrated on. *Budget* is what verification allows at that precision.
All but fp32 are calibrated, int4 by GPTQ. MiniLM and EfficientNet have
trained weights and real inputs (tweets to calibrate on and Amazon reviews to compare on; crops of
ten photographs), PP-OCR trained weights and such reviews set as text over photographs. BERT, ViT,
ResNet, Whisper and LLaMA have random weights and synthetic inputs (seeded noise, random tokens):
they tell that it builds and that nothing broke, and nothing of accuracy. PP-OCR's direction is sure
of nearly all lines, and its outputs next to 0 and 1 hide most of any error.

fp8 is for GPUs from sm89 on, and with int4 for transformers: convolutions have none of int4."""


def precisions(subject: Subject) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The precisions of a model, each with the GPUs to build for."""
    for precision in PRECISIONS:
        if subject.transformer or precision not in _FOR_TRANSFORMERS:
            yield precision, FLOAT8_GPUS if precision == "fp8" else GPUS


def measure(
    subject: Subject, precision: str, gpus: Sequence[str], cache: Path
) -> Iterator[dict[str, Any]]:
    """Optimize a model once and build it for each GPU; what fails is a row that says so.

    Args:
        subject: The model.
        precision: Of the engine.
        gpus: To build for. Where the first build fails, the next one starts from the model again.
        cache: Where the files of models are kept.

    Yields:
        For each GPU the figures of one build, or ``failed``: why there are none.
    """
    with tempfile.TemporaryDirectory() as folder:
        room, engine = Path(folder), None
        for gpu in gpus:
            row = {"model": subject.name, "precision": precision, "gpu": gpu}
            try:
                if engine is None:
                    engine = _optimize(subject, precision, gpu, cache, room)
                    facts = engine.manifest.build
                else:
                    facts = _build(engine, subject, gpu, room)
            except InfoptError as error:
                yield {**row, "failed": str(error)}
                continue
            yield {
                **row,
                **_exactness(engine),
                "seconds": facts["seconds"],
                "bytes": facts["plan"]["bytes"],
                "warnings": list(facts["warnings"]),
            }


def _exactness(engine: Engine) -> dict[str, Any]:
    """What is the same for every GPU, of an engine that was compared."""
    evidence = engine.manifest.evidence["equivalence"]
    found = evidence["outputs"].values()
    return {
        "weights": engine.manifest.sizes["weights_after"],
        "layers": sum(engine.manifest.build["network"].values()),
        "error": _written(max(float(output["max_relative"]) for output in found)),
        "sqnr_db": _written(min(float(output["sqnr_db"]) for output in found)),
        "samples": len(evidence["samples"]),
    }


def _optimize(subject: Subject, precision: str, gpu: str, cache: Path, room: Path) -> Engine:
    target = f"tensorrt-rtx:{gpu}"
    source = subject.file(cache)
    seen = None if precision == "fp32" else room / "seen.npz"
    if seen is not None and not seen.exists():
        infopt.calibrate(
            source, seen, data=subject.calibration(), target=target, precision=precision
        )
    return infopt.optimize(
        source,
        room / "engine",
        target=target,
        precision=precision,
        shapes=subject.shapes,
        data=subject.judged(),
        calibration=seen,
        measure=False,
        # Judged on the page: beyond the budget, too, it is built and its figure shown.
        tolerance=math.inf,
        least_sqnr=-math.inf,
    )


def _build(engine: Engine, subject: Subject, gpu: str, room: Path) -> Mapping[str, Any]:
    """Build another plan of the payload of an engine, which is the same for every GPU."""
    model = files.read_onnx(engine.file(files.MODEL_FILE))
    backend = backend_for(parse_target(f"tensorrt-rtx:{gpu}"))
    profiles = profiles_of(model, subject.shapes, (), None)
    return backend.build(engine.path, profiles, RunOptions(), room, ignore)


def _written(figure: float) -> float | str:
    """A figure for JSON, which knows no infinity: it becomes a text, as in manifests."""
    return figure if math.isfinite(figure) else str(figure)


def within(row: Mapping[str, Any]) -> bool:
    """Whether a row was built, and is as exact as verification asks for."""
    if "failed" in row:
        return False
    budget, error, sqnr = BUDGETS[row["precision"]], float(row["error"]), float(row["sqnr_db"])
    return error <= budget.tolerance and sqnr >= budget.least_sqnr


def missing(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What has no rows yet: names of models and their precisions."""
    known = {(row["model"], row["precision"]) for row in rows}
    wanted = ((s.name, precision) for s in subjects() for precision, _ in precisions(s))
    return [cell for cell in wanted if cell not in known]


def page(results: Mapping[str, Any]) -> Page:
    """The results as tables."""
    rows: Sequence[Mapping[str, Any]] = results["rows"]
    header = ["Model", "Precision", "Weights, MB", "Layers parsed"]
    header += [f"Build {gpu}, s" for gpu in GPUS] + [f"Plan {gpu}, MB" for gpu in GPUS]
    header += ["Error", "SQNR", "Budget", "Within"]
    lines = []
    for model, precision in dict.fromkeys((row["model"], row["precision"]) for row in rows):
        own = {r["gpu"]: r for r in rows if (r["model"], r["precision"]) == (model, precision)}
        first = next((r for r in own.values() if "failed" not in r), {})
        lines.append(
            [
                model,
                precision,
                f"{first['weights'] / 1e6:.1f}" if first else "–",
                f"{first['layers']:,}" if first else "–",
                *(_cell(own.get(gpu), "seconds", lambda s: f"{s:.1g}") for gpu in GPUS),
                *(_cell(own.get(gpu), "bytes", lambda b: f"{b / 1e6:.1f}") for gpu in GPUS),
                f"{float(first['error']):.0e}" if first else "–",
                _ratio(float(first["sqnr_db"])) if first else "–",
                _budget(BUDGETS[precision]),
                "yes" if all(map(within, own.values())) else "**no**",
            ]
        )
    tables = [("Builds", header, lines)]
    failed = [row for row in rows if "failed" in row]
    if failed:
        causes = [
            [row["model"], row["precision"], row["gpu"], " ".join(row["failed"].split())]
            for row in failed
        ]
        tables.append(("What failed", ["Model", "Precision", "GPU", "Why"], causes))
    if absent := missing(rows):
        names = {name: [p for n, p in absent if n == name] for name, _ in absent}
        lines = [[name, ", ".join(kinds)] for name, kinds in names.items()]
        tables.append(("Not taken yet", ["Model", "Precisions"], lines))
    return Page(
        name="builds",
        title="Engines of TensorRT for RTX, built without a GPU",
        command="python -m benchmarks.builds",
        method=METHOD,
        tables=tables,
        results=results,
        extra_versions=versions("tensorrt-rtx-cu13-libs"),
    )


def _cell(row: Mapping[str, Any] | None, key: str, text: Any) -> str:
    if row is None:
        return "–"
    return "**failed**" if "failed" in row else str(text(row[key]))


def _ratio(decibels: float) -> str:
    return "exact" if decibels == math.inf else f"{decibels:.1f} dB"


def _budget(budget: Budget) -> str:
    if math.isfinite(budget.tolerance):
        return f"{budget.tolerance:.0e}"
    return f"{budget.least_sqnr:.0f} dB"


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--precision", multiple=True, default=PRECISIONS, show_default=True)
@click.option("--only", default="", help="Models whose name contains this; others keep their rows.")
def main(cache: Path, output: Path, precision: tuple[str, ...], only: str) -> None:
    """Build every model for every GPU at every precision."""
    rows: list[dict[str, Any]] = []
    known = output / "builds.json"
    if known.exists() and (only or set(precision) != set(PRECISIONS)):
        rows = json.loads(known.read_text())["results"]["rows"]
    order = [subject.name for subject in subjects()]
    for subject in subjects():
        if only.lower() not in subject.name.lower():
            continue
        for kind, gpus in precisions(subject):
            if kind not in precision:
                continue
            rows = [r for r in rows if (r["model"], r["precision"]) != (subject.name, kind)]
            for row in measure(subject, kind, gpus, cache):
                rows.append(row)
                click.echo(str(row))
        rows.sort(key=lambda r: (order.index(r["model"]), PRECISIONS.index(r["precision"])))
        page({"rows": rows}).write(output)
    page({"rows": rows}).print()
    if not all(map(within, rows)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
