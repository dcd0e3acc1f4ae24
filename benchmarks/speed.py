"""The models of the zoo as engines: how exact, and how fast beside ONNX Runtime.

``python -m benchmarks.speed`` prints the table and writes docs/benchmarks/speed.md.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

import infopt
from benchmarks.models import CACHE, ZOO, Feeds, ZooModel
from benchmarks.report import DOCS, Page
from infopt.backends.base import Session
from infopt.evidence.metrics import difference
from infopt.measure.statistics import Ratio, Summary, noise_floor, ratio_of_medians, summarize
from infopt.measure.timing import Measurement, interleave

BATCHES = (1, 8)
LARGEST_ERROR = 1e-4
LOWEST_SPEED = 0.98

METHOD = """\
Each model goes through `infopt.optimize` at fp32. *Original* is ONNX Runtime's default session on
the ONNX file that one would run without infopt (for a module or a Hugging Face directory, the
file that torch's exporter writes); *engine* is what `infopt.load` returns, called as a user calls
it. Both have the same number of threads and the same inputs, and are timed in one run, call by
call in shuffled order; of each there are several sessions, because one session differs from the
next of the same file by a few percent. *Speed* is the median time of the original over that of
the engine, with the 95 % interval of a paired bootstrap; *noise* is how far from one the same
ratio came out for one half of the original's sessions against the other. *Error* is the largest
`max|a-b| / max|b|` of any output at any shape that was tried, against the original with ONNX
Runtime's optimizations off."""


@dataclasses.dataclass(frozen=True)
class Speed:
    """One model at one batch size."""

    batch: int
    original: Summary
    engine: Summary
    ratio: Ratio


@dataclasses.dataclass(frozen=True)
class Result:
    """One model."""

    model: ZooModel
    error: float
    shapes: tuple[str, ...]
    speeds: tuple[Speed, ...]

    @property
    def passes(self) -> bool:
        """Whether the model meets both limits."""
        fast = all(speed.ratio.value >= LOWEST_SPEED for speed in self.speeds)
        return fast and self.error <= LARGEST_ERROR

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "largest_relative_error": self.error,
            "shapes": self.shapes,
            "speeds": [
                {
                    "batch": speed.batch,
                    "size": self.model.sizes[0],
                    "original": speed.original.as_dict(),
                    "engine": speed.engine.as_dict(),
                    "ratio": speed.ratio.as_dict(),
                }
                for speed in self.speeds
            ],
        }


def measure(
    model: ZooModel, cache: Path, room: Path, *, threads: int, seconds: float, sessions: int
) -> Result:
    """Build the engine of ``model``; find its error at every shape and its speed."""
    source: Any = model.source()
    original = model.original(cache)
    engine = infopt.optimize(
        source, room / "engine", measure=False, threads=threads, **model.options()
    )
    engines = [infopt.load(engine.path, threads=threads) for _ in range(sessions)]
    originals = [_onnxruntime(original, threads, optimize=True) for _ in range(sessions)]
    error, shapes = _largest_error(model, original, engines[0])
    rng = np.random.default_rng(0)
    speeds = []
    for batch in BATCHES:
        feeds = model.feeds(batch, model.sizes[0], rng)
        given = _renamed(feeds, engines[0])
        subjects: dict[str, Callable[[], object]] = {}
        for number in range(sessions):
            subjects[f"original {number}"] = functools.partial(originals[number], feeds)
            subjects[f"engine {number}"] = functools.partial(engines[number], given)
        speeds.append(_speed(batch, interleave(subjects, seconds=seconds), sessions))
    return Result(model, error, shapes, tuple(speeds))


def _speed(batch: int, found: Measurement, sessions: int) -> Speed:
    """All sessions of one kind together; the noise is between halves of the original's."""

    def together(kind: str, numbers: range) -> list[float]:
        return [second for n in numbers for second in found.samples[f"{kind} {n}"]]

    original, engine = (together(kind, range(sessions)) for kind in ("original", "engine"))
    half = sessions // 2
    noise = (
        noise_floor(together("original", range(half)), together("original", range(half, 2 * half)))
        if half
        else 0.0
    )
    ratio = ratio_of_medians(original, engine, noise=noise)
    return Speed(batch, summarize(original), summarize(engine), ratio)


def _largest_error(
    model: ZooModel, original: Path, session: Session
) -> tuple[float, tuple[str, ...]]:
    reference = _onnxruntime(original, threads=None, optimize=False)
    rng = np.random.default_rng(1)
    worst, shapes = 0.0, []
    for batch in BATCHES:
        for size in model.sizes:
            feeds = model.feeds(batch, size, rng)
            expected, found = reference(feeds), list(session(_renamed(feeds, session)).values())
            if len(expected) != len(found):
                raise RuntimeError(f"{model.name}: {len(found)} outputs, not {len(expected)}")
            pairs = zip(found, expected, strict=True)
            worst = max(worst, *(difference(a, b).max_relative for a, b in pairs))
            shapes.append(f"{batch} x {size}")
    return worst, tuple(shapes)


def _renamed(feeds: Feeds, session: Session) -> Feeds:
    """``feeds`` by the engine's names: a module's importer may name inputs otherwise."""
    names = [spec.name for spec in session.inputs]
    return feeds if set(names) == set(feeds) else dict(zip(names, feeds.values(), strict=True))


def _onnxruntime(
    file: Path, threads: int | None, *, optimize: bool
) -> Callable[[Feeds], list[np.ndarray]]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    if threads is not None:
        options.intra_op_num_threads = threads
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda feeds: list(session.run(None, feeds))


def page(results: list[Result], threads: int, command: str) -> Page:
    """The results as tables."""
    header = [
        "Model",
        "Size",
        "Batch",
        "Original",
        "Engine",
        "Speed",
        "Interval",
        "Noise",
        "Verdict",
    ]
    rows = []
    for result in results:
        for speed in result.speeds:
            ratio = speed.ratio
            rows.append(
                [
                    result.model.name,
                    f"{result.model.sizes[0]} {result.model.unit}",
                    str(speed.batch),
                    f"{speed.original.median * 1e3:.3g} ms",
                    f"{speed.engine.median * 1e3:.3g} ms",
                    f"{ratio.value:.3f}",
                    f"{ratio.low:.3f}-{ratio.high:.3f}",
                    f"{ratio.noise:.3f}",
                    ratio.verdict(),
                ]
            )
    errors = [
        [r.model.name, f"{r.error:.1e}", ", ".join(r.shapes) + f" {r.model.unit}"] for r in results
    ]
    return Page(
        name="speed",
        title="Speed and exactness of fp32 engines on a CPU",
        command=command,
        method=METHOD,
        tables=[
            (f"Speed, {threads} threads", header, rows),
            ("Largest relative error", ["Model", "Error", "Shapes, batch x size"], errors),
        ],
        results=[result.as_dict() for result in results],
    )


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--seconds", default=30.0, show_default=True, help="For each model and batch size.")
@click.option("--sessions", default=4, show_default=True, help="Of each kind.")
@click.option("--threads", default=None, type=int, help="By default every core.")
@click.option("--only", multiple=True, help="Models whose name contains this.")
@click.option("--quick", is_flag=True, help="Two seconds, two sessions; nothing is written.")
def main(
    cache: Path,
    output: Path,
    seconds: float,
    sessions: int,
    threads: int | None,
    only: tuple[str, ...],
    *,
    quick: bool,
) -> None:
    """Measure the zoo; exit code 1 if a model misses a limit."""
    threads = threads or len(os.sched_getaffinity(0))
    chosen = [m for m in ZOO if not only or any(word.lower() in m.name.lower() for word in only)]
    results = []
    for model in chosen:
        click.echo(f"{model.name} …", err=True)
        with tempfile.TemporaryDirectory() as room:
            found = measure(
                model,
                cache,
                Path(room),
                threads=threads,
                seconds=2.0 if quick else seconds,
                sessions=2 if quick else sessions,
            )
            results.append(found)
    report = page(results, threads, "python -m benchmarks.speed")
    report.print()
    if not quick:
        report.write(output)
    missed = [result.model.name for result in results if not result.passes]
    if missed:
        click.echo(
            f"below {LOWEST_SPEED} of the original's speed, or off by more than {LARGEST_ERROR}: "
            + ", ".join(missed),
            err=True,
        )
        raise SystemExit(1)


if __name__ == "__main__":
    main()
