"""The command: environments, then one model after the other through all peers, then the page."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.models import CACHE
from benchmarks.report import DOCS
from benchmarks.sidebyside import environments
from benchmarks.sidebyside.client import PeerFailed
from benchmarks.sidebyside.environments import Environment
from benchmarks.sidebyside.page import page
from benchmarks.sidebyside.peers import BASELINE, PEERS, Peer
from benchmarks.sidebyside.run import NO_TIME, Race
from benchmarks.sidebyside.schedule import Budget
from benchmarks.sidebyside.workplace import ROOT, Cell, Workplace
from benchmarks.subjects import SUBJECTS, Subject

BUILD = Path("build")
WORK = BUILD / "sidebyside"
QUICK_MODELS = ("MiniLM",)
MINUTES, QUICK_MINUTES = 52.0, 3.5
SECONDS, QUICK_SECONDS = 20.0, 10.0


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
@click.option("--batches", multiple=True, type=int, help="By default 1 and 8.")
@click.option("--sizes", type=int, help="How many sizes of a model; by default 2.")
@click.option(
    "--minutes", type=float, help=f"After these nothing is begun; by default {MINUTES:g}."
)
@click.option("--seconds", type=float, help=f"At most, to time a cell; by default {SECONDS:g}.")
@click.option("--patience", default=240.0, show_default=True, help="Seconds for one thing asked.")
@click.option("--threads", default=None, type=int, help="By default every core.")
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Where the page is written.")
@click.option("--quick", is_flag=True, help="By default one small model at batch 1.")
def main(
    models: tuple[str, ...],
    peers: tuple[str, ...],
    batches: tuple[int, ...],
    sizes: int | None,
    minutes: float | None,
    seconds: float | None,
    patience: float,
    threads: int | None,
    cache: Path,
    output: Path | None,
    *,
    quick: bool,
) -> None:
    """Put infopt and every peer side by side.

    The page goes to docs/benchmarks where all was asked for, else to build/sidebyside. One that was
    cut short has left what it found in build/sidebyside/so-far.json.
    """
    whole = not (quick or models or peers or batches or sizes)
    models = models or (QUICK_MODELS if quick else ())
    batches = batches or ((1,) if quick else (1, 8))
    sizes = sizes or (1 if quick else 2)
    seconds = seconds or (QUICK_SECONDS if quick else SECONDS)
    budget = Budget(minutes or (QUICK_MINUTES if quick else MINUTES))
    threads = threads or len(os.sched_getaffinity(0))
    them, subjects = chosen_peers(peers), chosen_subjects(models)
    if not subjects:
        raise click.UsageError("no model has such a name")
    start = time.monotonic()
    made = _environments(them)
    found: list[dict[str, Any]] = []
    for number, subject in enumerate(subjects):
        _say(f"{subject.name} …")
        if not budget.left:
            found.append({"model": subject.name, "failed": NO_TIME})
            continue
        place = Workplace(
            subject, cells(subject, batches, sizes), WORK / "race", cache, made, threads
        )
        race = Race(place, them, patience=patience, say=_say)
        found.append(_raced(race, budget, len(subjects) - number, seconds))
        place.remove()
        (WORK / "so-far.json").write_text(json.dumps(found, indent=1))  # an hour is long
        _say(f"  {(time.monotonic() - start) / 60:.1f} minutes")
    results = {
        "threads": threads,
        "minutes": (time.monotonic() - start) / 60,
        "environments": {e.name: {"seconds": e.seconds, "error": e.error} for e in made.values()},
        "peers": [peer.name for peer in them],
        "models": found,
    }
    _publish(results, (output or (DOCS if whole else WORK)).resolve(), made["plots"])


def _environments(peers: Sequence[Peer]) -> dict[str, Environment]:
    _say("environments …")
    names = {peer.environment for peer in (BASELINE, *peers)} | {"plots"}
    made = environments.make(names, BUILD / "environments")
    for environment in made.values():
        took = f"{environment.seconds:.0f} s"
        _say(f"  {environment.name or 'infopt'}: {environment.error or took}")
    return made


def _raced(race: Race, budget: Budget, parts: int, seconds: float) -> dict[str, Any]:
    """What a race found, or why there was none."""
    try:
        race.optimize(budget)
        race.run(budget, parts, seconds)
    except PeerFailed as error:
        return {"model": race.place.subject.name, "failed": str(error)}
    return race.as_dict()


def _publish(results: dict[str, Any], folder: Path, plots: Environment) -> None:
    report = page(results)
    report.print()
    report.write(folder)
    _say(f"the page is {folder / 'sidebyside.md'}")
    if plots.error:
        _say(f"there are no plots: {plots.error}")
        return
    command = [str(plots.python), "-m", "benchmarks.sidebyside.plots"]
    subprocess.run([*command, str(folder / "sidebyside.json"), str(folder)], check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
