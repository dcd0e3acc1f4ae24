"""infopt beside the other optimizers for ONNX Runtime, on one processor, at fp32.

``python -m benchmarks.peers`` prints the table and writes docs/benchmarks/peers.md.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

import infopt
from benchmarks.models import CACHE, Feeds
from benchmarks.report import DOCS, Page, versions
from benchmarks.sessions import open_session, quiet
from benchmarks.sidebyside.job import Job
from benchmarks.speed import pairs, ratio
from benchmarks.subjects import SUBJECTS, Subject
from infopt.evidence.metrics import difference
from infopt.measure.statistics import Ratio

LOWEST_SPEED = 0.98
MEAN_SPEED = 1.05
LARGEST_ERROR = 1e-4
SLOW = 1.0
"""Seconds of a call from which on one pair of sessions is timed."""

METHOD = f"""\
Every optimizer gets the same ONNX file: what PyTorch's exporter writes of the model with the
attention that `transformers` uses by default. Its result runs in a default session of ONNX Runtime;
infopt's is what `infopt.load` returns. BERT, ViT, Whisper, LLaMA and ResNet have random weights,
MiniLM and EfficientNet trained ones. infopt and one peer at a time are timed in one run, call by
call in shuffled order, in several pairs of new sessions (one, where a call takes more than a
second). *Speed* is the median call of the fastest
peer over that of infopt, with the 95 % interval of a bootstrap; the columns behind it give the same
for each peer ("–": it refuses the model, or its result does not run). *Error* is the largest
`max|a-b| / max|b|` of the outputs, against the original with ONNX Runtime's optimizations off.
Rows with a star were taken again on their own, for longer (`--only MODEL --again`), after a run of
all models.
The goals are {LOWEST_SPEED} in every row and {MEAN_SPEED} in the geometric mean."""


DEFAULT = "ORT default"
PEERS: Mapping[str, str | None] = {
    DEFAULT: None,
    "ORT transformers": "ort_transformers",
    "onnxscript": "onnxscript_ort",
    "onnxslim": "onnxslim_default",
}
"""Their recipes in ``benchmarks.sidebyside``."""


def subjects() -> Iterator[tuple[Subject, int]]:
    """Those that are exported, and their sizes."""
    for subject in SUBJECTS:
        if subject.module is not None:
            yield from ((subject, size) for size in subject.sizes)


@dataclasses.dataclass(frozen=True)
class Row:
    """One model at one batch size."""

    subject: Subject
    size: int
    batch: int
    error: float
    ratios: Mapping[str, Ratio | None]
    """How many times as fast as each peer infopt is; ``None`` where the peer fails."""

    @property
    def best(self) -> Ratio:
        """The ratio to the fastest peer."""
        return min((r for r in self.ratios.values() if r is not None), key=lambda r: r.value)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "model": self.subject.name,
            "size": self.subject.size(self.size),
            "batch": self.batch,
            "largest_relative_error": self.error,
            "speed": self.best.as_dict(),
            "peers": {k: None if r is None else r.as_dict() for k, r in self.ratios.items()},
        }


def measure(
    subject: Subject,
    size: int,
    batch: int,
    cache: Path,
    *,
    threads: int,
    seconds: float,
    sessions: int,
) -> Row:
    """Time infopt beside every peer."""
    original = subject.file(cache)
    feeds = subject.feeds(batch, size, 0)
    engine = cache / f"{original.stem}.infopt"
    if not engine.exists():
        infopt.optimize(original, engine, measure=False, threads=threads, verify=False)

    def ours() -> Callable[[], object]:
        return functools.partial(infopt.load(engine, threads=threads), feeds)

    expected = open_session(original, threads, optimize=False).run(None, feeds)
    found = list(infopt.load(engine, threads=threads)(feeds).values())
    error = max(difference(a, b).max_relative for a, b in zip(found, expected, strict=True))
    # A session that takes seconds for a call does not depend on where its memory lies.
    count = 1 if _seconds(ours()) > SLOW else sessions
    ratios: dict[str, Ratio | None] = {}
    for name, recipe in PEERS.items():
        file = _peer(name, recipe, subject, original, threads)
        if file is None or not _runs(file, threads, feeds):
            ratios[name] = None
            continue
        theirs = functools.partial(_bound, file, threads, feeds)
        first, second = pairs(theirs, ours, count=count, seconds=seconds / count)
        ratios[name] = ratio(first, second)
    return Row(subject, size, batch, error, ratios)


def _seconds(call: Callable[[], object]) -> float:
    """How long the second call takes."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _peer(
    name: str, recipe: str | None, subject: Subject, original: Path, threads: int
) -> Path | None:
    """The file that a peer makes of the original; ``None`` if it fails."""
    if recipe is None:
        return original
    directory = original.with_name(f"{original.stem}.{recipe}")
    target = directory / "model.onnx"
    if not target.exists():
        try:
            job = Job.of(original, directory, threads=threads, kind=subject.kind)
            with quiet():
                importlib.import_module(f"benchmarks.sidebyside.recipes.{recipe}").optimize(job)
        except Exception as error:
            click.echo(f"{name}: {type(error).__name__}: {error}"[:200], err=True)
            return None
    return target


def _runs(file: Path, threads: int, feeds: Feeds) -> bool:
    try:
        _bound(file, threads, feeds)()
    except Exception as error:
        click.echo(f"{file.name}: {error}"[:200], err=True)
        return False
    return True


def _bound(file: Path, threads: int, feeds: Feeds) -> Callable[[], object]:
    session = open_session(file, threads)
    wanted = {value.name: feeds[value.name] for value in session.get_inputs()}
    return functools.partial(session.run, None, wanted)


def mean(rows: list[dict[str, Any]]) -> float:
    """The geometric mean of all speeds."""
    return math.exp(sum(math.log(row["speed"]["value"]) for row in rows) / len(rows))


def page(results: Mapping[str, Any]) -> Page:
    """The results as a table."""
    rows = results["rows"]
    header = ["Model", "Size", "Batch", "Speed", "Interval", *PEERS, "Error"]
    lines = []
    for row in rows:
        speed = row["speed"]
        lines.append(
            [
                row["model"] + " *" * row.get("again", False),
                row["size"],
                str(row["batch"]),
                f"{speed['value']:.3f}",
                f"{speed['low']:.3f}-{speed['high']:.3f}",
                *("–" if r is None else f"{r['value']:.2f}" for r in row["peers"].values()),
                f"{row['largest_relative_error']:.0e}",
            ]
        )
    lines.append(["Geometric mean", "", "", f"{mean(rows):.3f}", *[""] * (len(PEERS) + 2)])
    return Page(
        name="peers",
        title="infopt beside other optimizers for ONNX Runtime on a CPU",
        command="python -m benchmarks.peers",
        method=METHOD,
        tables=[(f"Speed, {results['threads']} threads", header, lines)],
        results=results,
        extra_versions=versions("onnxscript", "onnxslim"),
    )


def replaced(rows: list[dict[str, Any]], by: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``rows``, those of them that were taken again as they came out then."""
    new = {_which(row): {**row, "again": True} for row in by}
    return [new.get(_which(row), row) for row in rows]


def _which(row: Mapping[str, Any]) -> tuple[str, str, int]:
    return row["model"], row["size"], row["batch"]


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--seconds", default=16.0, show_default=True, help="For each cell and peer.")
@click.option("--sessions", default=4, show_default=True, help="Pairs of sessions.")
@click.option("--threads", default=None, type=int, help="By default every core.")
@click.option("--only", default="", help="Models whose name contains this; nothing is written …")
@click.option("--again", is_flag=True, help="… but their rows, in the place of those on the page.")
def main(
    cache: Path,
    output: Path,
    seconds: float,
    sessions: int,
    threads: int | None,
    only: str,
    again: bool,
) -> None:
    """Time infopt beside its peers; exit code 1 if it misses a goal."""
    threads = threads or len(os.sched_getaffinity(0))
    rows = []
    for subject, size in subjects():
        for batch in (1, 8) if only.lower() in subject.name.lower() else ():
            row = measure(
                subject, size, batch, cache, threads=threads, seconds=seconds, sessions=sessions
            )
            rows.append(row.as_dict())
            best = row.best
            each = {k: None if r is None else round(r.value, 3) for k, r in row.ratios.items()}
            click.echo(f"{subject.name} {subject.size(size)} × {batch}: {best.value:.3f} {each}")
    if again:
        rows = replaced(json.loads((output / "peers.json").read_text())["results"]["rows"], rows)
    report = page({"threads": threads, "rows": rows})
    report.print()
    if again or not only:
        report.write(output)
    slow = [row for row in rows if row["speed"]["value"] < LOWEST_SPEED]
    if slow or mean(rows) < MEAN_SPEED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
