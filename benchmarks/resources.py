"""Time and memory to optimize large models, beside other optimizers.

``python -m benchmarks.resources`` prints the tables and writes docs/benchmarks/resources.md.
"""

from __future__ import annotations

import dataclasses
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from benchmarks import models
from benchmarks.optimizers import TOOLS, size_of
from benchmarks.report import DOCS, Page
from infopt.measure.memory import run_child

TIMEOUT = 900.0
MB = 10**6

METHOD = """\
Each tool reads a model file, optimizes it and writes the result, in a process of its own; infopt
does so without verification. *Work* is the time for that, *process* the time from the start of the
process to its end, imports of libraries included; *memory* is the process's largest resident set,
memory-mapped pages included. Figures are medians over several rounds; in each round the tools run
one after the other in shuffled order. A tool that fails has its error in its row."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model, and what infopt may spend on it."""

    name: str
    build: Callable[[Path], Path]
    most_seconds: float | None
    most_memory: Callable[[int], float]
    """The limit in bytes, from the size of the model in bytes."""


SUBJECTS = (
    Subject("BERT-base", models.bert_base, 3.0, lambda size: 1.5 * size + 300 * MB),
    Subject("SmolLM2-135M", models.smollm2, 10.0, lambda size: 1.5 * size + 300 * MB),
    Subject("Synthetic, external data", models.synthetic, None, lambda size: 1.5 * size),
)


@dataclasses.dataclass(frozen=True)
class Run:
    """One tool on one model, once."""

    work: float
    process: float
    peak_rss: int
    written: int
    error: str = ""


def run_once(tool: str, model: Path) -> Run:
    """Run ``tool`` on ``model`` in a child process; what it wrote is removed."""
    with tempfile.TemporaryDirectory(dir=model.parent) as directory:
        command = [sys.executable, "-m", "benchmarks.optimizers", tool, str(model), directory]
        try:
            child = run_child(command, timeout=TIMEOUT)
        except TimeoutError:
            return Run(TIMEOUT, TIMEOUT, 0, 0, f"did not end in {TIMEOUT:g} s")
        lines = child.stdout.splitlines()
        work = [float(line.split()[1]) for line in lines if line.startswith("seconds ")]
        written = sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file())
        error = ""
        if child.returncode or not work or not written:
            said = [line for line in child.stderr.splitlines() if line.strip()]
            error = (said[-1] if said else f"exit code {child.returncode}").strip()
        return Run(work[0] if work else 0.0, child.seconds, child.peak_rss, written, error)


def measure(model: Path, rounds: int) -> dict[str, list[Run]]:
    """All tools on one model, in shuffled order in each round."""
    for file in model.parent.glob(f"{model.stem}.*"):
        with file.open("rb") as stream:  # into the page cache, for all alike
            while stream.read(1 << 24):
                pass
    order = random.Random(0)
    runs: dict[str, list[Run]] = {tool: [] for tool in TOOLS}
    for _ in range(rounds):
        for tool in order.sample(list(TOOLS), len(TOOLS)):
            if not (runs[tool] and runs[tool][-1].error):  # what failed once fails again
                runs[tool].append(run_once(tool, model))
                click.echo(f"  {tool}: {runs[tool][-1]}", err=True)
    return runs


def help_latency(rounds: int) -> list[float]:
    """Seconds that ``infopt --help`` takes."""
    command = [sys.executable, "-m", "infopt", "--help"]
    return [run_child(command).seconds for _ in range(rounds)]


def _median(runs: Sequence[Run], field: str) -> float:
    return float(statistics.median(getattr(run, field) for run in runs))


def _row(tool: str, runs: Sequence[Run]) -> list[str]:
    failed = next((run.error for run in runs if run.error), "")
    if failed:
        return [tool, f"failed: {failed[:120].replace('|', '/')}", "", "", ""]
    return [
        tool,
        f"{_median(runs, 'work'):.2f} s",
        f"{_median(runs, 'process'):.2f} s",
        f"{_median(runs, 'peak_rss') / MB:,.0f} MB",
        f"{_median(runs, 'written') / MB:,.0f} MB",
    ]


def _missed(subject: Subject, size: int, runs: Sequence[Run]) -> list[str]:
    """Which limits infopt missed."""
    missed = [f"{subject.name}: {run.error}" for run in runs if run.error]
    seconds, memory = _median(runs, "work"), _median(runs, "peak_rss")
    if subject.most_seconds is not None and seconds > subject.most_seconds:
        missed.append(f"{subject.name}: {seconds:.1f} s, allowed {subject.most_seconds:g} s")
    if memory > subject.most_memory(size):
        allowed = subject.most_memory(size) / MB
        missed.append(f"{subject.name}: {memory / MB:,.0f} MB, allowed {allowed:,.0f} MB")
    return missed


def _peer_versions() -> dict[str, str]:
    try:
        return {"onnxslim": metadata.version("onnxslim")}
    except metadata.PackageNotFoundError:
        return {}


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), default=models.CACHE, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--only", multiple=True, help="Models whose name contains this.")
@click.option("--quick", is_flag=True, help="One round of BERT-base, and nothing is written.")
def main(cache: Path, output: Path, rounds: int, only: tuple[str, ...], *, quick: bool) -> None:
    """Measure all optimizers; exit code 1 if infopt misses a limit."""
    words = [word.lower() for word in only] or (["bert"] if quick else [""])
    rounds = 1 if quick else rounds
    header = ["Tool", "Work", "Process", "Memory", "Written"]
    tables: list[tuple[str, list[str], list[list[str]]]] = []
    results: dict[str, Any] = {}
    missed: list[str] = []
    for subject in SUBJECTS:
        if not any(word in subject.name.lower() for word in words):
            continue
        click.echo(f"{subject.name} …", err=True)
        model = subject.build(cache)
        size = size_of(model)
        runs = measure(model, rounds)
        rows = [_row(tool, of_tool) for tool, of_tool in runs.items()]
        tables.append((f"{subject.name}, {size / MB:,.0f} MB", header, rows))
        results[subject.name] = {
            "bytes": size,
            "tools": {tool: [dataclasses.asdict(r) for r in rs] for tool, rs in runs.items()},
        }
        missed += _missed(subject, size, runs["infopt"])
    latency = help_latency(3 if quick else 11)
    median = statistics.median(latency)
    tables.append(("Start", ["Command", "Time"], [["infopt --help", f"{median:.3f} s"]]))
    results["infopt --help"] = latency
    missed += [f"infopt --help: {median:.2f} s, allowed 0.5 s"] if median > 0.5 else []
    page = Page(
        name="resources",
        title="Time and memory to optimize",
        command="python -m benchmarks.resources",
        method=METHOD,
        tables=tables,
        results=results,
        extra_versions=_peer_versions(),
    )
    page.print()
    if not quick:
        page.write(output)
    if missed:
        click.echo("missed: " + "; ".join(missed), err=True)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
