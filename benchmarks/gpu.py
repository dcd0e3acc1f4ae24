"""infopt's engines on a GPU, beside what one has without them, and beside the GPU's limits.

``python -m benchmarks.gpu`` measures every model and batch, prints the tables and writes
docs/benchmarks/gpu.json and the page that is made from it. Where there is little time it goes by
parts: ``--models BERT --time-budget 500`` stops in time, ``--resume`` leaves out what is in the
file already, and ``--merge part.json`` puts files of other runs into it. Each cell (a model at a
batch size) is written as soon as it is known.

``--device cpu --output somewhere`` rehearses all that on a processor; these are no figures.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks import gpu_forms, gpu_limits
from benchmarks.gpu_forms import COMPILED, Call, Cell, Form
from benchmarks.gpu_limits import Device, Work
from benchmarks.gpu_models import BATCHES, subjects
from benchmarks.gpu_page import Results, goals_missed, page
from benchmarks.models import CACHE
from benchmarks.report import DOCS
from infopt import provenance
from infopt.errors import InfoptError, UnavailableError
from infopt.evidence.equivalence import Sample
from infopt.evidence.metrics import Difference, difference
from infopt.evidence.repeats import repeat
from infopt.measure.statistics import ratio_of_medians
from infopt.measure.timing import Measurement, interleave, until_precise
from infopt.verification import BUDGETS

Row = dict[str, Any]


def measure(
    cell: Cell, wanted: Sequence[Form], found: Mapping[str, Any], *, seconds: float
) -> dict[str, Any]:
    """Make every form of a cell, judge it, and time those that are right in one run.

    Args:
        cell: What is measured.
        wanted: The forms.
        found: Ceilings of the device.
        seconds: For the rounds.
    """
    expected = gpu_forms.reference(cell)
    feeds = cell.subject.feeds(cell.batch, 0)
    done = gpu_limits.work(cell.subject.file(cell.cache), feeds, expected)
    rows: list[Row] = []
    calls: dict[str, Call] = {}
    for form in wanted:
        row, call = _judged(form, cell, expected)
        rows.append(row)
        if call is not None:
            calls[_key(row)] = _finished(call, cell.device)
        click.echo(f"  {_key(row)}: {row.get('reason') or _quality(row)}")
    if calls:
        timed = interleave(
            calls, seconds=seconds, enough=until_precise(0.01), sleep=cell.device.rest
        )
        for row, form in zip(rows, wanted, strict=True):
            if _key(row) in calls:
                row |= _times(row, timed) | _share(form, row, done, found, timed)
    return {
        **_named(cell),
        "macs": done.macs,
        "weights": done.weights,
        "forms": rows,
    }


def _judged(form: Form, cell: Cell, expected: np.ndarray) -> tuple[Row, Call | None]:
    """What a form computes, beside what is right; no call where it is not to be timed."""
    row: Row = {"form": form.name, "precision": form.precision, "ours": form.ours}
    if not form.fits(cell.subject):
        return row | {"reason": f"{form.precision} is for transformers"}, None
    start = time.perf_counter()
    try:
        call = form.make(cell)
        row["made_in_s"] = round(time.perf_counter() - start, 1)
        apart = difference(_array(call()), expected)
        row |= {"error": apart.max_relative, "sqnr_db": min(apart.sqnr_db, 999.0)}
        wrong = _wrong(row, apart, call) if form.ours else None
    except Exception as error:  # a peer may fail as it likes; so may a GPU's memory
        wrong = _said(error)
    return (row, call) if wrong is None else (row | {"reason": wrong}, None)


def _wrong(row: Row, apart: Difference, call: Call) -> str | None:
    """Why an engine is not to be timed: it is too far off, or not the same each time."""
    if not BUDGETS[row["precision"]].allows(apart):
        return f"too far off: error {apart.max_relative:.1e}, SQNR {apart.sqnr_db:.1f} dB"
    again = repeat(lambda _: {"output": _array(call())}, [Sample({}, "the same inputs")])
    row |= {"runs": again.times, "identical": not again.worst}
    return None if again.holds else f"differs by {again.worst['output']:.1e} between runs"


def _array(output: Any) -> np.ndarray:
    """A copy of an output as float32 on the processor."""
    return np.array(output.float().cpu().numpy())


def _finished(call: Call, device: Device) -> Callable[[], None]:
    """A call that is done when it returns."""

    def run() -> None:
        call()
        device.finish()

    return run


def _times(row: Row, timed: Measurement) -> Row:
    summary = timed.summary(_key(row)).as_dict()
    compiled = next((key for key in timed.samples if key.startswith(COMPILED)), None)
    if compiled is None:
        return {"seconds": summary}
    speed = ratio_of_medians(timed.samples[compiled], timed.samples[_key(row)], noise=0.0)
    return {"seconds": summary, "speed": speed.as_dict()}


def _share(form: Form, row: Row, done: Work, found: Mapping[str, Any], timed: Measurement) -> Row:
    limit = done.limit(form.limited_by, found)
    if limit is None:
        return {}
    seconds, what = limit
    share = seconds / timed.summary(_key(row)).median
    return {"limit_s": seconds, "limited_by": what, "share": share}


def _key(row: Row) -> str:
    return f"{row['form']} {row['precision']}"


def _quality(row: Row) -> str:
    return f"error {row['error']:.1e}, {row['sqnr_db']:.0f} dB, made in {row['made_in_s']} s"


def _said(error: Exception) -> str:
    said = next((line for line in str(error).splitlines() if line.strip()), "").strip()
    return said if isinstance(error, InfoptError) else f"{type(error).__name__}: {said}"[:200]


def describe_run(device: Device) -> dict[str, Any]:
    """Where and with what a run is made."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": device.kind,
        "gpu": device.describe(),
        "hardware": provenance.hardware(),
        "versions": provenance.versions(),
        "ceilings": gpu_limits.ceilings(device),
    }


def read(directory: Path) -> Results:
    """The results that are there; none where there are none."""
    file = directory / "gpu.json"
    if not file.exists():
        return {"runs": [], "cells": []}
    return dict(json.loads(file.read_text())["results"])


def merged(results: Results, more: Results) -> Results:
    """Both, the cells of ``more`` in the place of those of ``results``.

    A cell is of one run, since its forms were timed beside one another. Runs of which no cell is
    left are dropped.
    """
    both = [*results["runs"], *more["runs"]]
    shift = len(results["runs"])
    cells = {_which(cell): cell for cell in results["cells"]}
    cells |= {_which(cell): {**cell, "run": cell["run"] + shift} for cell in more["cells"]}
    left = sorted({cell["run"] for cell in cells.values()})
    order = {subject.name: number for number, subject in enumerate(subjects())}
    return {
        "runs": [both[number] for number in left],
        "cells": [
            {**cell, "run": left.index(cell["run"])}
            for cell in sorted(
                cells.values(), key=lambda c: (order.get(c["model"], len(order)), c["batch"])
            )
        ],
    }


def _which(cell: Mapping[str, Any]) -> tuple[str, str, int]:
    return cell["model"], cell["size"], cell["batch"]


def _named(cell: Cell) -> dict[str, Any]:
    return {"model": cell.subject.name, "size": cell.subject.size, "batch": cell.batch}


def planned(
    models: Sequence[str], batches: Sequence[int], device: Device, cache: Path
) -> Iterator[Cell]:
    """The cells to measure: the batches of one model together, since they share engines."""
    for subject in subjects():
        if not models or any(word.lower() in subject.name.lower() for word in models):
            for batch in batches:
                yield Cell(subject, batch, device, cache)


@click.command()
@click.option("--models", multiple=True, help="Models whose name contains this; by default all.")
@click.option("--batches", multiple=True, type=int, default=BATCHES, show_default=True)
@click.option("--forms", multiple=True, help="Forms whose name contains this; by default all.")
@click.option("--seconds", default=6.0, show_default=True, help="For the rounds of each cell.")
@click.option("--time-budget", type=float, help="Seconds in which to end.")
@click.option("--resume", is_flag=True, help="Leave out cells that the results hold already.")
@click.option("--merge", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--keep-engines", is_flag=True, help="Use those that earlier calls have built.")
@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda", show_default=True)
@click.option("--cache", type=click.Path(path_type=Path), default=CACHE, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
def main(
    models: tuple[str, ...],
    batches: tuple[int, ...],
    forms: tuple[str, ...],
    seconds: float,
    time_budget: float | None,
    resume: bool,
    merge: tuple[Path, ...],
    keep_engines: bool,
    device: str,
    cache: Path,
    output: Path,
) -> None:
    """Measure; exit code 1 if a goal is missed, 3 if there is no GPU."""
    where = Device(device)
    if not where.is_gpu and output.resolve() == DOCS.resolve():
        raise click.UsageError("a rehearsal gives no figures for the page; name another --output")
    results = read(output)
    if merge:
        for file in merge:
            results = merged(results, json.loads(file.read_text())["results"])
        page(results).write(output)
        return
    try:
        where.require()
    except UnavailableError as error:
        if not results["runs"]:
            page(results).write(output)
        click.echo(f"Nothing was measured: {error}", err=True)
        raise SystemExit(3) from None
    if not keep_engines:
        gpu_forms.clear(cache)
    there = {_which(cell) for cell in results["cells"]} if resume else set()
    results = _measure_all(
        results,
        [
            cell
            for cell in planned(models, batches, where, cache)
            if _which(_named(cell)) not in there
        ],
        [form for form in gpu_forms.forms(where) if _wanted(form, forms)],
        seconds=seconds,
        budget=time_budget,
        output=output,
    )
    page(results).print()
    missed = goals_missed(results)
    for goal in missed:
        click.echo(f"missed: {goal}", err=True)
    raise SystemExit(1 if missed else 0)


def _measure_all(
    results: Results,
    cells: Sequence[Cell],
    wanted: Sequence[Form],
    *,
    seconds: float,
    budget: float | None,
    output: Path,
) -> Results:
    """``results`` with the cells that could be measured in time, each of them written at once."""
    if not cells:
        return results
    start, longest = time.monotonic(), 0.0
    run = describe_run(cells[0].device)
    click.echo(f"{run['gpu']}\n{run['ceilings']}")
    before, rows = results, list[dict[str, Any]]()
    for number, cell in enumerate(cells):
        begun = time.monotonic()
        if budget is not None and begun - start + longest > budget:
            click.echo(f"the time budget ends here; {len(cells) - number} cells are left")
            break
        click.echo(f"{cell.subject.name} × {cell.batch}")
        try:
            row = measure(cell, wanted, run["ceilings"], seconds=seconds)
        except ModuleNotFoundError as error:  # a package that brings a model
            click.echo(f"  not measured: {error}", err=True)
            continue
        finally:
            cell.device.forget()
        rows.append({**row, "run": 0})
        results = merged(before, {"runs": [run], "cells": rows})
        page(results).write(output)
        longest = max(longest, time.monotonic() - begun)
    return results


def _wanted(form: Form, words: Sequence[str]) -> bool:
    # All are compared with this one.
    return form.name == COMPILED or not words or any(word in form.name for word in words)


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
