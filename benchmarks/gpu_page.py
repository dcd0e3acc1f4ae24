"""The page of the GPU benchmark, made from its results and from nothing else."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.gpu_forms import COMPILED, DEFAULT, EAGER
from benchmarks.gpu_models import BATCHES, subjects
from benchmarks.report import Page

Results = dict[str, Any]
"""``runs``, each with its hardware, versions and ceilings, and ``cells``, each of one run."""

LOWEST_SPEED = 1.0
MEAN_SPEED = 1.2

METHOD = f"""\
A cell is a model at a batch size. In each, infopt's engines stand beside the module in torch
(*eager*, and *compiled*: `torch.compile(mode="max-autotune", dynamic=False)`), both at fp16 with
inputs at fp16, and beside ONNX Runtime's CUDA provider with nothing set, on the file that torch's
exporter writes. BERT, ViT, Whisper and ResNet have random weights, MiniLM and EfficientNet
trained ones. Engines for ONNX Runtime are for any batch; those for TensorRT, like compiled
modules, for one. Inputs lie on the GPU as tensors and outputs stay there. A call is timed from
its start until the GPU is done with it (`torch.cuda.synchronize()`), after warming up; the forms
of a cell take turns in shuffled order in one run, and each figure is a median. *Speed* is the
median of torch.compile over that of the form, with the 95 % interval of a paired bootstrap.

*Share* is how much of the form's time would be left if the GPU did nothing but the model's
products (two operations for each multiply-accumulate, as fast as a matrix product of 8192 × 8192
in that arithmetic) or nothing but reading its weights once and its inputs and outputs (as fast as
it copies 1 GiB within its memory), whichever takes longer. Both ceilings were measured in the
same run. Tables of which rows are looked up do not count as weights, what stays in the cache
does: so small models can come closer to the limit than they seem to be able to, or beyond it.

*Error* is the largest `max|a-b| / max|b|` of the first output and *SQNR* its signal-to-noise
ratio, on the inputs that are timed, against the module at fp32 without TF32 on the same GPU. An
engine beyond the budget of its precision is not timed, nor is one that ten runs on the same inputs
show to be unsteady; *same* says whether all ten were equal to the last bit. The goals for
infopt's best engine are {LOWEST_SPEED} in every cell and {MEAN_SPEED} in the geometric mean at
batch 1."""

_NOTHING = """\
**Not measured.** No NVIDIA GPU was at hand, so this page holds no figure. `{command}` takes them
where one is, and writes this page; [builds](builds.md) shows what could be shown without."""

_REHEARSAL = "**This is a rehearsal on a processor: nothing here is a figure of a GPU.**"


@dataclasses.dataclass(frozen=True)
class GpuPage(Page):
    """A page whose figures may come from several runs, or from none."""

    runs: Sequence[Mapping[str, Any]] = ()

    def document(self) -> dict[str, Any]:
        """The results, each run with its own date and machine."""
        return {"benchmark": self.name, "command": self.command, "results": self.results}

    def render(self, document: Mapping[str, Any]) -> str:
        """The page."""
        lines = [f"# {self.title}", ""]
        if not self.runs:
            lines += [_NOTHING.format(command=document["command"]), "", "## Method", ""]
            return "\n".join([*lines, self.method, ""])
        if any(run["device"] != "cuda" for run in self.runs):
            lines += [_REHEARSAL, ""]
        lines += [self.method, ""]
        for run in self.runs:
            lines += [*_described(run), ""]
        lines += [f"`{document['command']}` takes the figures again and writes this page.", ""]
        return "\n".join(lines) + "\n" + self.tables_as_text()


def _described(run: Mapping[str, Any]) -> list[str]:
    gpu, machine = run["gpu"], run["hardware"]
    facts = [gpu["name"], gpu.get("capability", "")]
    if "memory_bytes" in gpu:
        facts += [f"{gpu['memory_bytes'] / (1 << 30):.0f} GiB"]
        facts += [f"{gpu['multiprocessors']} multiprocessors"]
    facts += [
        f"{word} {gpu[key]}"
        for key, word in (
            ("driver_version", "driver"),
            ("cuda", "CUDA"),
            ("cudnn", "cuDNN"),
            ("power_limit", "at most"),
        )
        if gpu.get(key)
    ]
    facts += [f"{machine['processor']}, {machine['cores']} cores", machine["system"]]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return [f"Taken on {run['date']}, {', '.join(filter(None, facts))}.", f"Versions: {versions}."]


def page(results: Results) -> GpuPage:
    """The results as tables."""
    cells, runs = results["cells"], results["runs"]
    tables = [
        ("infopt's best engine", *_best_table(cells)),
        ("Every form", *_forms_table(cells)),
        ("Ceilings", *_ceilings_table(runs)),
    ]
    missing = [
        [cell["model"], str(cell["batch"]), row["form"], row["precision"], row["reason"]]
        for cell in cells
        for row in cell["forms"]
        if "reason" in row
    ]
    missing += [
        [*cell, "every form", "", "there was no time, or no such model here"]
        for cell in left(cells)
    ]
    if missing:
        header = ["Model", "Batch", "Form", "Precision", "Why not"]
        tables.append(("Not measured", header, missing))
    return GpuPage(
        name="gpu",
        title="infopt on a GPU",
        command="python -m benchmarks.gpu",
        method=METHOD,
        tables=tables,
        results=results,
        runs=runs,
    )


Table = tuple[list[str], list[list[str]]]


def _best_table(cells: Sequence[Mapping[str, Any]]) -> Table:
    header = ["Model", "Size", "Batch", "Best engine", "infopt", "Compiled", "Eager"]
    header += [DEFAULT, "Speed", "Interval", "Share"]
    lines = []
    for cell in cells:
        ours = best(cell)
        peers = [_time(_row(cell, name)) for name in (COMPILED, EAGER, DEFAULT)]
        lines.append(
            [
                cell["model"],
                cell["size"],
                str(cell["batch"]),
                f"{ours['form'].removeprefix('infopt, ')} {ours['precision']}" if ours else "–",
                _time(ours),
                *peers,
                *_speed(ours),
                _percent(ours),
            ]
        )
    blank = [""] * 5
    for batch in sorted({cell["batch"] for cell in cells}):
        mean = mean_speed(cells, batch)
        if mean is not None:
            lines.append(
                ["Geometric mean", "", str(batch), *blank, f"{mean:.2f}", "", ""]  # of all models
            )
    return header, lines


def _forms_table(cells: Sequence[Mapping[str, Any]]) -> Table:
    header = ["Model", "Batch", "Form", "Precision", "Median", "p90", "Speed", "Interval"]
    header += ["Limit", "by", "Share", "Error", "SQNR", "Same", "Made in"]
    lines = []
    for cell in cells:
        for row in cell["forms"]:
            if "seconds" not in row:
                continue
            limit = f"{row['limit_s'] * 1e3:.3f} ms" if "limit_s" in row else "–"
            same = {True: "yes", False: "no", None: ""}[row.get("identical")]
            lines.append(
                [
                    cell["model"],
                    str(cell["batch"]),
                    row["form"],
                    row["precision"],
                    _time(row),
                    f"{row['seconds']['p90'] * 1e3:.3f} ms",
                    *_speed(row),
                    limit,
                    row.get("limited_by", ""),
                    _percent(row),
                    f"{row['error']:.0e}",
                    f"{row['sqnr_db']:.0f} dB",
                    same,
                    f"{row['made_in_s']:.0f} s",
                ]
            )
    return header, lines


def _ceilings_table(runs: Sequence[Mapping[str, Any]]) -> Table:
    kinds = list(dict.fromkeys(k for run in runs for k in run["ceilings"]["operations_per_s"]))
    header = ["GPU", "Date", "Copy, GB/s moved", *(f"{kind}, Tera/s" for kind in kinds)]
    lines = []
    for run in runs:
        found = run["ceilings"]["operations_per_s"]
        speeds = [f"{found[kind] / 1e12:.1f}" if found.get(kind) else "–" for kind in kinds]
        moved = f"{run['ceilings']['bytes_per_s'] / 1e9:,.0f}"
        lines.append([run["gpu"]["name"], run["date"], moved, *speeds])
    return header, lines


def left(cells: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Model and batch of those that belong to the benchmark, and are not there."""
    there = {(cell["model"], cell["batch"]) for cell in cells}
    wanted = ((subject.name, batch) for subject in subjects() for batch in BATCHES)
    return [(name, str(batch)) for name, batch in wanted if (name, batch) not in there]


def best(cell: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The row of infopt's fastest engine; ``None`` where none was timed."""
    ours = [row for row in cell["forms"] if row["ours"] and "seconds" in row]
    return min(ours, key=lambda row: row["seconds"]["median"], default=None)


def mean_speed(cells: Sequence[Mapping[str, Any]], batch: int) -> float | None:
    """The geometric mean of infopt's best over torch.compile, where both were timed."""
    found = [best(cell) for cell in cells if cell["batch"] == batch]
    speeds = [row["speed"]["value"] for row in found if row is not None and "speed" in row]
    return math.exp(sum(map(math.log, speeds)) / len(speeds)) if speeds else None


def goals_missed(results: Results) -> list[str]:
    """The goals that the results show to be missed, in words."""
    missed = []
    for cell in results["cells"]:
        ours = best(cell)
        if ours is not None and "speed" in ours and ours["speed"]["value"] < LOWEST_SPEED:
            missed.append(f"{cell['model']} × {cell['batch']}: {ours['speed']['value']:.2f}")
        if ours is None and any(row["ours"] for row in cell["forms"]):
            missed.append(f"{cell['model']} × {cell['batch']}: no engine of infopt's was timed")
    mean = mean_speed(results["cells"], 1)
    if mean is not None and mean < MEAN_SPEED:
        missed.append(f"the geometric mean at batch 1: {mean:.2f}")
    return missed


def _row(cell: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return next((row for row in cell["forms"] if row["form"] == name), None)


def _time(row: Mapping[str, Any] | None) -> str:
    return f"{row['seconds']['median'] * 1e3:.3f} ms" if row and "seconds" in row else "–"


def _speed(row: Mapping[str, Any] | None) -> tuple[str, str]:
    if row is None or "speed" not in row:
        return "–", ""
    speed = row["speed"]
    return f"{speed['value']:.2f}", f"{speed['low']:.2f}-{speed['high']:.2f}"


def _percent(row: Mapping[str, Any] | None) -> str:
    return f"{row['share']:.0%}" if row and "share" in row else "–"
