"""The page of the documentation: what infopt loses to first, then everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.report import Page
from benchmarks.sidebyside import plots
from benchmarks.sidebyside.environments import pins
from benchmarks.sidebyside.findings import (
    EXACT,
    TIE,
    WANTED,
    Duel,
    Row,
    led,
    losses,
    rows,
    unclear,
)
from benchmarks.sidebyside.peers import PEERS
from benchmarks.sidebyside.run import NO_TIME

COMMAND = "python -m benchmarks.sidebyside"
MB = 10**6
LONGEST_TEXT = 90
Tables = list[tuple[str, list[str], list[list[str]]]]

METHOD = f"""\
Every peer gets the same ONNX file (PyTorch's the module that it was exported from), does with it
what a user would do by the peer's documentation, each in an environment of its own, and loads
the result into a process of its own. All processes are timed in one run: in shuffled order each
makes one call that does not count and then calls for 20 ms or one of them, while all others are
stopped; where there is time, all are started anew and timed again, up to four times. *Speed* is
the median over passes of {PEERS[0].name}'s time over that of the peer, both of the same pass, with
its 95 % interval (of fewer than six passes: all of them). *Noise* is how far from one a second
process of {PEERS[0].name} came out. *Error* is √(Σ(a-b)² / Σb²) of the worst output on inputs that
nothing was calibrated on, against the original in ONNX Runtime with its optimizations off.
*Kept* is the share of the pictures whose class is the same (top-1),
or the cosine of sentence embeddings (embedding). *Optimize* is the processor time of one process
and of what it starts, imports apart; two work at a time. *Memory* is the largest resident set of
the process that optimizes and of the one that runs,
*size* what has to be kept to run. Quantizers calibrate on the same samples. BERT, ViT, Whisper,
LLaMA and ResNet have random weights, the others trained ones.

Each model is a run of its own; its heading says when it was taken, on which processor, and whether
speeds are ratios of medians still, as they were before those within a pass. A processor
*that saturates int8* cuts sums of products of uint8 and int8 off (x86 without VNNI): infopt's int8
then runs on other kernels, or with coarser weights (*unsaturated*), while its peers' is less exact.

infopt is set beside a peer with its fastest form that errs no more than the peer, again pass by
pass; errors up to {EXACT:g} count as equal. From {TIE} on it is not behind."""


def page(results: Mapping[str, Any]) -> Page:
    """The results as a page."""
    found = rows(results)
    tables: Tables = [("Where infopt is behind first", *_overview(found))]
    said = [verdict(found), *_untaken(results)]
    tables += [_model(model) for model in results["models"]]
    tables += [("Recipes", *_recipes(results["peers"]))]
    return Page(
        name="sidebyside",
        title=f"infopt and its peers side by side, {results['threads']} threads of a CPU",
        command=COMMAND,
        method="\n\n".join([*said, *_plots(results), METHOD]),
        tables=tables,
        results=results,
        extra_versions=_versions(results["peers"]),
    )


def verdict(found: Sequence[Row]) -> str:
    """In a few sentences, who is ahead of whom."""
    ahead, cells = led(found)
    if not cells:
        return "Nothing was timed."
    goal = "the goal is" if ahead >= WANTED * cells else "**the goal is missed**:"
    text = (
        f"infopt leads or ties every peer on ONNX Runtime, at equal or lower error, in {ahead} of "
        f"{cells} cells ({goal} {WANTED:.0%})."
    )
    if unclear(found):
        text += f" In {unclear(found)} of the others the interval of the ratio reaches {TIE}."
    lost = losses(found)
    if not lost:
        return f"{text} No peer is ahead of it."
    named = ", ".join(f"{name} ({count})" for name, count in lost.items())
    counted = "by the number of cells where that peer is the farthest ahead"
    return f"{text} It is behind, {counted}: {named}."


def _untaken(results: Mapping[str, Any]) -> list[str]:
    """What time left out: infopt goes first, so that a count without these would flatter it."""
    cells = sum(
        NO_TIME in (peer["failed"].get(""), peer["failed"].get(cell["name"]))
        for model in results["models"]
        for cell in model.get("cells", ())
        for peer in model["peers"].values()
    )
    models = [model["model"] for model in results["models"] if model.get("failed") == NO_TIME]
    left = [f"{cells} of the peers' cells"] if cells else []
    left += [", ".join(models)] if models else []
    return [f"**Not taken for lack of time:** {' and '.join(left)}."] if left else []


def _plots(results: Mapping[str, Any]) -> list[str]:
    return [
        f"![Speed against error, batch {batch}]({name})" for batch, name in plots.names(results)
    ]


def _overview(found: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    header = ["Model", "Size", "Batch"]
    header += ["Peer on ONNX Runtime", "its speed", "infopt", "its speed ", "ratio"]
    header += ["Peer with other kernels", "its speed  ", "infopt ", "its speed   ", "ratio "]
    lines = []
    for row in found:
        cells = [*_duel(row.same_runtime), *_duel(row.other_kernels)]
        lines.append([row.model, row.size, str(row.batch), *cells])
    return header, lines


def _duel(duel: Duel | None) -> list[str]:
    if duel is None:
        return ["–"] * 5
    theirs = [duel.theirs.peer.name, f"{duel.theirs.speed:.2f}"]
    if duel.ours is None:
        return [*theirs, "nothing as exact", "–", "**0**"]
    low, high = duel.interval
    ratio = f"{duel.ratio:.2f}" if duel.ratio >= TIE else f"**{duel.ratio:.2f}**"
    ratio += f" ({low:.2f}-{high:.2f})"
    return [*theirs, duel.ours.peer.name, f"{duel.ours.speed:.2f}", ratio]


def _model(model: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    if "failed" in model:
        return model["model"], ["Model", "Result"], [[model["model"], _text(model["failed"])]]
    header = ["Peer", "Error", *(["Kept"] if model["metric"] else [])]
    header += [f"{cell['size']} × {cell['batch']}" for cell in model["cells"]]
    header += ["Optimize", "its memory", "Memory running", "Size"]
    lines = [_peer(name, peer, model) for name, peer in model["peers"].items()]
    noise = ["noise", "", *([""] if model["metric"] else [])]
    noise += ["–" if c["noise"] is None else f"{c['noise']:.1%}" for c in model["cells"]]
    lines.append([*noise, "", "", "", ""])
    caption = f"{model['model']}, {model['bytes'] / MB:,.1f} MB"
    caption += f", kept: {model['metric']}" if model["metric"] else ""
    return f"{caption}{_when(model)}", header, lines


def _when(model: Mapping[str, Any]) -> str:
    """When a model was taken, and on what."""
    machine = model["hardware"]
    kind = " that saturates int8" if machine["saturates"] else ""
    cells = [cell for peer in model["peers"].values() for cell in peer["cells"].values()]
    way = "" if any("passes" in cell for cell in cells) or not cells else "; ratios of medians"
    return f"; {model['date']}, {machine['cores']} cores of {machine['processor']}{kind}{way}"


def _peer(name: str, peer: Mapping[str, Any], model: Mapping[str, Any]) -> list[str]:
    """One row; what a peer could not do is said where the figure would stand."""
    metric = bool(model["metric"])
    width = 2 + metric + len(model["cells"]) + 4
    shown = f"**{name}**" if name.startswith("infopt") else name
    if "" in peer["failed"]:
        line = [shown, _text(peer["failed"][""])]
        return line + [""] * (width - len(line))
    line = [shown, f"{peer['error']:.1e}", *([f"{peer['metric']:.4f}"] if metric else [])]
    for cell in model["cells"]:
        line.append(_cell(peer, cell["name"]))
    sizes = (peer["optimize_peak_rss"], peer["run_peak_rss"])
    line += [f"{peer['optimize_seconds']:.1f} s", *(f"{size / MB:,.0f} MB" for size in sizes)]
    return [*line, f"{peer['bytes'] / MB:,.1f} MB"]


def _cell(peer: Mapping[str, Any], name: str) -> str:
    if name not in peer["cells"]:
        return _text(peer["failed"].get(name, "not taken"))
    speed = peer["cells"][name]["speed"]
    return f"{speed['value']:.2f} ({speed['low']:.2f}-{speed['high']:.2f})"


def _text(error: str) -> str:
    """An error that fits into a cell of a table."""
    words = " ".join(error.split()).replace("|", "/")
    return words if len(words) <= LONGEST_TEXT else words[: LONGEST_TEXT - 1] + "…"


def _recipes(names: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    lines = []
    for peer in PEERS:
        if peer.name in names:
            address = peer.page if peer.page.startswith("https") else f"../../{peer.page}"
            lines.append([peer.name, peer.summary, f"[page]({address})", peer.recipe])
    return ["Peer", "What is done", "By", "Recipe"], lines


def _versions(names: Sequence[str]) -> dict[str, str]:
    """Of what the peers' environments are for."""
    words = "onnxruntime onnxscript onnxslim olive-ai optimum-onnx openvino nncf torch torchao"
    wanted = (*words.split(), "transformers")
    found: dict[str, str] = {}
    for environment in sorted({p.environment for p in PEERS if p.name in names} - {""}):
        pinned = pins(environment)
        for package in wanted:
            if package in pinned:
                found[f"{package} ({environment})"] = pinned[package]
    return found
