"""The gate on latency: how often it cries wolf, and how often it sees one.

``python -m benchmarks.gates`` prints the tables and writes docs/benchmarks/gates.md. All parts take
up to four hours of a machine that does nothing else; ``--part quiet-aa`` and so on take one at a
time, and the others keep what the page has of them. What was found is kept after every check, so
that a part that was interrupted goes on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

import infopt
from benchmarks import models
from benchmarks.report import DOCS, Page
from infopt import provenance

LAYERS = 10
MORE = 1
"""A tenth of the layers, and so of the products, on top."""
SHAPES = ("batch=1", "sequence=64")
MOST_FALSE = 2 / 200
LEAST_CAUGHT = 95 / 100
MOST_SECONDS = 20.0
LATENCY = "latency"
# The slowed engine differs in all these respects, too; only its latency is looked at.
ALLOWED = ("operators", "fusions", "precision", "error", "size")
NEIGHBOUR = "while True: sum(range(10_000))"

METHOD = """\
An encoder (BERT with random weights, width 192, ten layers, batch 1, 64 tokens) is compiled, and a
baseline is taken of its engine once, on the quiet machine. Then `infopt check --max-slowdown 5%`
runs again and again, each time as a new process: on the same engine, where every alarm is false,
and on an engine of the encoder with eleven layers, which has 10 % more of the same products. All of
that once on the quiet machine, and once beside a neighbour, a process that computes without pause
and keeps one core busy.

*Alarm* counts checks that say `worse`, *undecided* those that say `inconclusive`; either fails a
check by default, so that both count as false alarms on the same engine, and only the first as
caught on the slower one. Times are from the start of the process to its end. The first rows are
about latency alone, cold starts are left out; the *whole* check has cold starts and memory besides,
in the same 20 s, and an alarm there is one of any kind."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One row of the table."""

    title: str
    slower: bool
    neighbours: int
    checks: int
    whole: bool = False
    """With cold starts and memory; any finding counts."""


PARTS: Mapping[str, Part] = {
    "quiet-aa": Part("quiet, same engine", False, 0, 200),
    "busy-aa": Part("busy neighbour, same engine", False, 1, 200),
    "quiet-slower": Part("quiet, 10 % slower", True, 0, 100),
    "busy-slower": Part("busy neighbour, 10 % slower", True, 1, 100),
    "quiet-whole": Part("quiet, same engine, whole check", False, 0, 50, whole=True),
    "busy-whole": Part("busy neighbour, same engine, whole check", False, 1, 50, whole=True),
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One check."""

    verdict: str
    sentence: str
    """What it said, in which the figures are."""
    seconds: float


@dataclasses.dataclass(frozen=True)
class Room:
    """A directory with both engines, their baselines, and what was found so far."""

    path: Path

    def engine(self, *, slower: bool) -> Path:
        return self.path / ("slower.engine" if slower else "same.engine")

    def baseline(self, *, whole: bool) -> Path:
        return self.path / ("whole.json" if whole else "latency.json")

    def build(self, cache: Path) -> None:
        """Make what is not there yet."""
        self.path.mkdir(parents=True, exist_ok=True)
        for slower, layers in ((False, LAYERS), (True, LAYERS + MORE)):
            if not self.engine(slower=slower).exists():
                source = models.encoder(layers, cache)
                infopt.optimize(source, self.engine(slower=slower), measure=False)
        for whole in (False, True):
            if not self.baseline(whole=whole).exists():
                infopt.take_baseline(
                    self.engine(slower=False),
                    self.baseline(whole=whole),
                    reference=models.encoder(LAYERS, cache),
                    shapes=SHAPES,
                    cold_starts=whole,
                )

    def found(self, name: str) -> list[Outcome]:
        """What is known of a part, which holds as long as its baseline is the same."""
        file = self.file(name)
        if not file.exists():
            return []
        kept = json.loads(file.read_text())
        if kept["baseline"] != self._digest(name):
            raise click.ClickException(f"{file} is of another baseline; remove {self.path}")
        return [Outcome(**outcome) for outcome in kept["outcomes"]]

    def keep(self, name: str, outcomes: Sequence[Outcome]) -> None:
        document = {
            "baseline": self._digest(name),
            "outcomes": [dataclasses.asdict(outcome) for outcome in outcomes],
        }
        unfinished = self.file(name).with_suffix(".unfinished")
        unfinished.write_text(json.dumps(document, indent=1))
        unfinished.replace(self.file(name))

    def file(self, name: str) -> Path:
        """Where what was found of a part is kept."""
        return self.path / f"{name}.outcomes.json"

    def _digest(self, name: str) -> str:
        return hashlib.sha256(self.baseline(whole=PARTS[name].whole).read_bytes()).hexdigest()


def check(engine: Path, baseline: Path, *, whole: bool) -> Outcome:
    """Run one check in a process of its own, as a user does."""
    command = [sys.executable, "-m", "infopt", "check", str(engine), "--baseline", str(baseline)]
    command += ["--max-slowdown", "5%", "--json", "-q"]
    for name in () if whole else ALLOWED:
        command += ["--allow", name]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 1):
        raise RuntimeError(f"the check failed: {done.stderr}")
    document = json.loads(done.stdout)
    findings = {it["name"]: it for it in document["findings"]}
    if not whole:
        return Outcome(findings[LATENCY]["verdict"], findings[LATENCY]["sentence"], seconds)
    bad = [it for it in document["findings"] if it["verdict"] in ("worse", "inconclusive")]
    told = bad or [findings[LATENCY]]
    sentence = "; ".join(f"{it['name']}: {it['sentence']}" for it in told)
    return Outcome(document["verdict"], sentence, seconds)


@contextlib.contextmanager
def neighbour(count: int) -> Iterator[None]:
    """So many processes that keep a core busy each."""
    running = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def measure(room: Room, name: str, checks: int) -> None:
    """Take what is missing of a part."""
    part, outcomes = PARTS[name], room.found(name)
    engine, baseline = room.engine(slower=part.slower), room.baseline(whole=part.whole)
    with neighbour(part.neighbours):
        while len(outcomes) < checks:
            outcomes.append(check(engine, baseline, whole=part.whole))
            room.keep(name, outcomes)
            last = outcomes[-1]
            told = f"  {name} {len(outcomes)} of {checks}: {last.verdict}, {last.seconds:.1f} s"
            click.echo(told, err=True)


def row(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    counted = [outcome.verdict for outcome in outcomes]
    seconds = [outcome.seconds for outcome in outcomes]
    return [
        PARTS[name].title,
        str(len(outcomes)),
        str(counted.count("worse")),
        str(counted.count("inconclusive")),
        str(counted.count("same") + counted.count("better")),
        f"{statistics.median(seconds):.1f} s",
        f"{np.quantile(seconds, 0.9):.1f} s",
        f"{max(seconds):.1f} s",
    ]


def missed(name: str, outcomes: Sequence[Outcome]) -> list[str]:
    """Which limits were missed. What is undecided fails a check by default, and so is an alarm."""
    part, count = PARTS[name], len(outcomes)
    red = sum(outcome.verdict in ("worse", "inconclusive") for outcome in outcomes)
    caught = sum(outcome.verdict == "worse" for outcome in outcomes)
    longest = max(outcome.seconds for outcome in outcomes)
    found = []
    if not part.slower and red > MOST_FALSE * count:
        found.append(f"{name}: {red} false alarms")
    if part.slower and caught < LEAST_CAUGHT * count:
        found.append(f"{name}: {caught} caught")
    return found + ([f"{name}: {longest:.1f} s"] if longest > MOST_SECONDS else [])


def page(results: Mapping[str, Any]) -> Page:
    """The page of these results."""
    header = ["Machine, engine", "Checks", "Alarm", "Undecided", "Passed"]
    header += ["Median", "Nine of ten within", "All within", "Taken"]
    rows = []
    for name, part in PARTS.items():
        if name not in results:
            rows.append([part.title, *[""] * (len(header) - 2), "not taken yet"])
            continue
        found = results[name]
        outcomes = [Outcome(**outcome) for outcome in found["outcomes"]]
        machine = found["hardware"]
        where = f"{found['date']}, {machine['processor']}, {machine['cores']} cores"
        rows.append([*row(name, outcomes), where])
    return Page(
        name="gates",
        title="False and true alarms of the gate on latency",
        command="python -m benchmarks.gates",
        method=METHOD,
        tables=[("At a limit of 5 %", header, rows)],
        results=results,
    )


def taken(room: Room, name: str) -> dict[str, Any]:
    """What was found of a part on this machine, for the page."""
    when = datetime.datetime.fromtimestamp(room.file(name).stat().st_mtime, datetime.UTC)
    return {
        "date": when.date().isoformat(),
        "hardware": provenance.hardware(),
        "baseline": json.loads(room.baseline(whole=PARTS[name].whole).read_text())["facts"],
        "outcomes": [dataclasses.asdict(outcome) for outcome in room.found(name)],
    }


def known(folder: Path) -> dict[str, Any]:
    """The parts that the page in a folder has."""
    file = folder / "gates.json"
    return dict(json.loads(file.read_text())["results"]) if file.exists() else {}


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), default=models.CACHE, show_default=True)
@click.option(
    "--room",
    "place",
    type=click.Path(path_type=Path),
    default=Path("build/gates"),
    show_default=True,
    help="Where engines, baselines and what was found so far are kept.",
)
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--part", "parts", multiple=True, type=click.Choice(tuple(PARTS)), help="Only this.")
@click.option("--checks", type=click.IntRange(min=1), help="Of each part, for a trial.")
def main(
    cache: Path, place: Path, output: Path, parts: tuple[str, ...], checks: int | None
) -> None:
    """Measure the gate; exit code 1 if it misses a limit.

    The page is written after every part that has all of its checks.
    """
    # Who ends the benchmark means its neighbour as well.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    room = Room(place)
    room.build(cache)
    for name in parts or PARTS:
        measure(room, name, checks or PARTS[name].checks)
        found = {**known(output), name: taken(room, name)}
        page(found).print()
        if len(found[name]["outcomes"]) >= PARTS[name].checks:
            page(found).write(output)
    failures = [failure for name in parts or PARTS for failure in missed(name, room.found(name))]
    if failures:
        click.echo("missed: " + "; ".join(failures), err=True)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
