"""The command: environments, then one model after the other through all peers, then the page."""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.models import CACHE
from benchmarks.report import DOCS
from benchmarks.sidebyside import environments, plots
from benchmarks.sidebyside.client import PeerFailed
from benchmarks.sidebyside.environments import Environment
from benchmarks.sidebyside.page import page
from benchmarks.sidebyside.peers import BASELINE, PEERS, Peer
from benchmarks.sidebyside.run import NO_TIME, Race
from benchmarks.sidebyside.schedule import Budget
from benchmarks.sidebyside.worker import describe
from benchmarks.sidebyside.workplace import Cell, Workplace
from benchmarks.subjects import SUBJECTS, Subject
from infopt import provenance
from infopt.backends.onnxruntime import saturation

BUILD = Path("build")
WORK = BUILD / "sidebyside"
QUICK_MODELS = ("MiniLM",)
QUICK_PEERS = ("ORT dynamic int8", "onnxscript", "onnxslim", "OpenVINO", "OpenVINO NNCF int8")
"""One of each kind; the environments of the others take longer to make than there is."""
OPTIMIZING = 0.5
"""The part of a model's share of the time that peers may take to optimize it."""
MINUTES, QUICK_MINUTES = 54.0, 3.5
SECONDS, QUICK_SECONDS = 30.0, 10.0
_COUNT = click.IntRange(min=1)
_TIME = click.FloatRange(min=0, min_open=True)


def chosen_peers(words: Sequence[str]) -> list[Peer]:
    """Those whose name contains one of the words, the baseline, and infopt."""
    named = [p.name for p in PEERS if _matches(p.name, words)]
    return _with_infopt(named)


def _with_infopt(names: Sequence[str]) -> list[Peer]:
    return [p for p in PEERS if p == BASELINE or p.ours or p.name in names]


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
@click.option("--batches", multiple=True, type=_COUNT, help="By default 1 and 8.")
@click.option("--sizes", type=_COUNT, help="How many sizes of a model; by default 2.")
@click.option(
    "--minutes", type=_TIME, help=f"After these nothing is begun; by default {MINUTES:g}."
)
@click.option("--seconds", type=_TIME, help=f"For the passes of a cell; by default {SECONDS:g}.")
@click.option(
    "--patience", type=_TIME, default=240, show_default=True, help="Seconds for one thing asked."
)
@click.option("--threads", type=_COUNT, help="By default every core.")
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), help="Where the page is written.")
@click.option("--quick", is_flag=True, help="By default a small model at batch 1, and a few peers.")
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

    The page goes to docs/benchmarks where all was asked for, of all models or of some, whose rows
    take the place of those that the page has; else to build/sidebyside. Less or more time makes no
    difference to that: the page says what was not taken. A run that was cut short has left what it
    found in build/sidebyside/so-far.json.
    """
    whole = not (quick or any((peers, batches, sizes, threads)))
    models = models or (QUICK_MODELS if quick else ())
    batches = batches or ((1,) if quick else (1, 8))
    sizes = sizes or (1 if quick else 2)
    seconds = seconds or (QUICK_SECONDS if quick else SECONDS)
    budget = Budget(minutes or (QUICK_MINUTES if quick else MINUTES))
    threads = threads or len(os.sched_getaffinity(0))
    them = _with_infopt(QUICK_PEERS) if quick and not peers else chosen_peers(peers)
    # The light ones first: what they leave of their share of the time goes to the others.
    subjects = chosen_subjects(models)[::-1]
    if not subjects:
        names = ", ".join(subject.name for subject in SUBJECTS)
        raise click.UsageError(f"no model has such a name; there are {names}")
    for word in peers:
        if not any(_matches(peer.name, [word]) for peer in PEERS):
            names = ", ".join(peer.name for peer in PEERS)
            raise click.UsageError(f"no peer is called {word!r}; there are {names}")
    start = time.monotonic()
    made = _environments(them)
    found: list[dict[str, Any]] = []
    taken = _taken()
    for number, subject in enumerate(subjects):
        _say(f"{subject.name} …")
        if not budget.left:
            found.append({"model": subject.name, "failed": NO_TIME})
            continue
        try:
            place = Workplace(
                subject, cells(subject, batches, sizes), WORK / "race", cache, made, threads
            )
        except Exception as error:  # a model that cannot be had is no reason to lose the others
            found.append({"model": subject.name, "failed": describe(error)})
            continue
        race = Race(place, them, patience=patience, say=_say)
        share = Budget(budget.share(len(subjects) - number) / 60)
        found.append({**_raced(race, share, seconds), **taken})
        place.remove()
        (WORK / "so-far.json").write_text(json.dumps(found, indent=1))  # an hour is long
        _say(f"  {(time.monotonic() - start) / 60:.1f} minutes")
    folder = output or (DOCS if whole else WORK)
    results = {
        "threads": threads,
        "peers": [peer.name for peer in them],
        "models": joined(found, known(folder, threads) if whole else []),
    }
    publish(results, folder)


def known(folder: Path, threads: int) -> list[dict[str, Any]]:
    """The models that the page in a folder has, if they ran on so many threads."""
    file = folder / "sidebyside.json"
    if not file.exists():
        return []
    results = json.loads(file.read_text())["results"]
    return list(results["models"]) if results["threads"] == threads else []


def joined(found: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What was found, and of other models what was found before, in the order of the models."""
    models = {model["model"]: model for model in before}
    for model in found:
        if model.get("failed") != NO_TIME or model["model"] not in models:
            models[model["model"]] = model
    return [models[subject.name] for subject in SUBJECTS if subject.name in models]


def _taken() -> dict[str, Any]:
    """When and on which machine."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    hardware = {**provenance.hardware(), "saturates": saturation.saturates()}
    return {"date": today, "hardware": hardware}


def _environments(peers: Sequence[Peer]) -> dict[str, Environment]:
    _say("environments …")
    names = {peer.environment for peer in (BASELINE, *peers)}
    made = environments.make(names, BUILD / "environments")
    for environment in made.values():
        took = f"{environment.seconds:.0f} s"
        _say(f"  {environment.name or 'infopt'}: {environment.error or took}")
    return made


def _raced(race: Race, share: Budget, seconds: float) -> dict[str, Any]:
    """What a race found, or why there was none."""
    try:
        race.optimize(Budget(OPTIMIZING * share.left / 60))
        race.run(share, seconds)
    except PeerFailed as error:
        return {"model": race.place.subject.name, "failed": str(error)}
    except Exception as error:  # the page has what was found of the others
        return {"model": race.place.subject.name, "failed": describe(error)}
    return race.as_dict()


def publish(results: dict[str, Any], folder: Path) -> None:
    """Write page and plots into ``folder``, and show the tables."""
    report = page(results)
    report.write(folder)
    plots.write(results, folder)
    report.print()
    _say(f"the page is {folder / 'sidebyside.md'}")


if __name__ == "__main__":
    main()
