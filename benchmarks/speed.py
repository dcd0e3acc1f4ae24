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
from infopt.measure.timing import interleave

BATCHES = (1, 8)
LARGEST_ERROR = 1e-4
LOWEST_SPEED = 0.98

METHOD = """\
Each model goes through `infopt.optimize` at fp32. *Original* is ONNX Runtime's default session on
the ONNX file that one would run without infopt (for a module or a Hugging Face directory, the
file that torch's exporter writes); *engine* is what `infopt.load` returns, called as a user calls
it. Both have the same number of threads and the same inputs, and are timed in one run, call by
call in shuffled order. One session differs from the next of the same file by a few percent, so
several pairs of new sessions are timed, one pair after the other; each call counts as a multiple of
the median call of the original in its pair. *Speed* is the median of the original over that of the
engine, with the 95 % interval of a paired bootstrap; *noise* is how far from one the same ratio
came out for pairs of two sessions of the original. *Error* is the largest
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
    error, shapes = _largest_error(model, original, infopt.load(engine.path, threads=threads))
    rng = np.random.default_rng(0)

    def originally(feeds: Feeds) -> Callable[[], object]:
        return functools.partial(_onnxruntime(original, threads, optimize=True), feeds)

    def as_engine(feeds: Feeds) -> Callable[[], object]:
        session = infopt.load(engine.path, threads=threads)
        return functools.partial(session, _renamed(feeds, session))

    speeds = []
    for batch in BATCHES:
        feeds = model.feeds(batch, model.sizes[0], rng)
        share = seconds / sessions
        against = functools.partial(pairs, functools.partial(originally, feeds), seconds=share)
        original_s, engine_s = against(functools.partial(as_engine, feeds), count=sessions)
        once, again = against(functools.partial(originally, feeds), count=(sessions + 1) // 2)
        noise = noise_floor(relative(once, once), relative(again, once))
        ratio = ratio_of_medians(
            relative(original_s, original_s), relative(engine_s, original_s), noise=noise
        )
        speeds.append(
            Speed(batch, summarize(sum(original_s, ())), summarize(sum(engine_s, ())), ratio)
        )
    return Result(model, error, shapes, tuple(speeds))


Series = list[tuple[float, ...]]
"""Seconds for each call, for each pair of sessions."""
Maker = Callable[[], Callable[[], object]]
"""Makes a session and binds its inputs."""


def pairs(
    make_first: Maker, make_second: Maker, *, count: int, seconds: float
) -> tuple[Series, Series]:
    """Time pairs of new sessions, one pair after the other, in alternating order of creation.

    Never more than two at once: the threads of a session go on spinning for a while after a
    call, and those of many would take the cores from the one that is being timed.
    """
    first: Series = []
    second: Series = []
    for number in range(count):
        if number % 2:
            late, early = make_second(), make_first()
        else:
            early, late = make_first(), make_second()
        found = interleave(
            {"first": early, "second": late}, seconds=seconds, noise=False, seed=number
        )
        first.append(found.samples["first"])
        second.append(found.samples["second"])
    return first, second


def relative(series: Series, baseline: Series) -> list[float]:
    """All calls as multiples of the median call of the baseline's session in the same pair."""
    return [
        second / float(np.median(base))
        for calls, base in zip(series, baseline, strict=True)
        for second in calls
    ]


def ratio(theirs: Series, ours: Series) -> Ratio:
    """The speed of the second of pairs beside the first."""
    return ratio_of_medians(relative(theirs, theirs), relative(ours, theirs), noise=0.0)


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
@click.option("--sessions", default=8, show_default=True, help="Pairs of sessions.")
@click.option("--threads", default=None, type=int, help="By default every core.")
@click.option("--only", multiple=True, help="Models whose name contains this.")
@click.option("--quick", is_flag=True, help="Two seconds, two pairs; nothing is written.")
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
