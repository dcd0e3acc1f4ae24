"""The command: environments, then one model after the other through all peers, then the page."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.models import CACHE
from benchmarks.report import DOCS
from benchmarks.sidebyside import environments
from benchmarks.sidebyside.client import PeerFailed
from benchmarks.sidebyside.page import page
from benchmarks.sidebyside.peers import BASELINE, PEERS, Peer
from benchmarks.sidebyside.run import NO_TIME, Race
from benchmarks.sidebyside.schedule import Budget
from benchmarks.sidebyside.workplace import ROOT, Cell, Workplace
from benchmarks.subjects import SUBJECTS, Subject

BUILD = Path("build")
QUICK_MODELS = ("MiniLM",)
QUICK_BATCHES = (1,)
QUICK_MINUTES, QUICK_SECONDS = 4.0, 10.0


def chosen_peers(words: Sequence[str]) -> list[Peer]:
    """Those whose name contains one of the words, and the baseline."""
    return [p for p in PEERS if p == BASELINE or _matches(p.name, words)]


def chosen_subjects(words: Sequence[str]) -> list[Subject]:
    """Those whose name contains one of the words."""
    return [subject for subject in SUBJECTS if _matches(subject.name, words)]


def _matches(name: str, words: Sequence[str]) -> bool:
    return not words or any(word.lower() in name.lower() for word in words)


def cells(subject: Subject, batches: Sequence[int], sizes: int) -> list[Cell]:
    """Batch sizes times sizes, the cheap ones first."""
    return [Cell(batch, size) for size in subject.sizes[:sizes] for batch in sorted(batches)]


def _say(text: str) -> None:
    click.echo(text, err=True)


@click.command()
@click.option("--models", multiple=True, help="Models whose name contains this; by default all.")
@click.option("--peers", multiple=True, help="Peers whose name contains this; by default all.")
@click.option("--batches", multiple=True, type=int, default=(1, 8), show_default=True)
@click.option("--sizes", default=2, show_default=True, help="How many sizes of a model.")
@click.option("--minutes", default=52.0, show_default=True, help="After these nothing is begun.")
@click.option("--seconds", default=20.0, show_default=True, help="At most, to time a cell.")
@click.option("--patience", default=240.0, show_default=True, help="Seconds for one thing asked.")
@click.option("--threads", default=None, type=int, help="By default every core.")
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Where the page is written.")
@click.option("--quick", is_flag=True, help="One small model at batch 1, every peer.")
def main(
    models: tuple[str, ...],
    peers: tuple[str, ...],
    batches: tuple[int, ...],
    sizes: int,
    minutes: float,
    seconds: float,
    patience: float,
    threads: int | None,
    cache: Path,
    output: Path | None,
    *,
    quick: bool,
) -> None:
    """Put infopt and every peer side by side.

    The page goes to docs/benchmarks where all was asked for, else to build/sidebyside.
    """
    if quick:
        models, batches, sizes = models or QUICK_MODELS, QUICK_BATCHES, 1
        minutes, seconds = min(minutes, QUICK_MINUTES), min(seconds, QUICK_SECONDS)
    budget = Budget(minutes)
    threads = threads or len(os.sched_getaffinity(0))
    them, subjects = chosen_peers(peers), chosen_subjects(models)
    if not subjects:
        raise click.UsageError("no model has such a name")
    _say("environments …")
    names = {peer.environment for peer in (BASELINE, *them)} | {"plots"}
    made = environments.make(names, BUILD / "environments")
    for environment in made.values():
        _say(f"  {environment.name or 'infopt'}: {environment.error or environment.seconds:.0f} s")
    start = time.monotonic()
    found: list[dict[str, Any]] = []
    for number, subject in enumerate(subjects):
        _say(f"{subject.name} …")
        if not budget.left:
            found.append({"model": subject.name, "failed": NO_TIME})
            continue
        place = Workplace(
            subject,
            cells(subject, batches, sizes),
            BUILD / "sidebyside" / "work",
            cache,
            made,
            threads,
        )
        race = Race(place, them, patience=patience, say=_say)
        try:
            race.optimize(budget)
            race.run(budget, len(subjects) - number, seconds)
            found.append(race.as_dict())
        except PeerFailed as error:
            found.append({"model": subject.name, "failed": str(error)})
        place.remove()
        _say(f"  {(time.monotonic() - start) / 60:.1f} minutes")
    results = {
        "threads": threads,
        "minutes": (time.monotonic() - start) / 60,
        "environments": {e.name: {"seconds": e.seconds, "error": e.error} for e in made.values()},
        "peers": [peer.name for peer in them],
        "models": found,
    }
    whole = not (quick or models or peers) and set(batches) >= {1, 8} and sizes >= 2
    report = page(results)
    report.print()
    folder = output or (DOCS if whole else BUILD / "sidebyside")
    report.write(folder)
    _say(f"the page is {folder / 'sidebyside.md'}")
    if not made["plots"].error:
        command = [str(made["plots"].python), "-m", "benchmarks.sidebyside.plots"]
        target = folder.resolve()
        subprocess.run(
            [*command, str(target / "sidebyside.json"), str(target)], check=True, cwd=ROOT
        )


if __name__ == "__main__":
    sys.exit(main())
