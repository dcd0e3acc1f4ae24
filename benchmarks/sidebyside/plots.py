"""Speed against error as pictures: an SVG for each batch size, a panel for each model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.sidebyside.findings import Form, forms, front
from benchmarks.sidebyside.peers import PEERS

COLUMNS = 2
LEAST_ERROR = 1e-8
"""Where exact results stand on the logarithmic axis."""
OURS = "#c2185b"
STYLES = {
    "ONNX Runtime": ("o", "#1f77b4"),
    "OpenVINO": ("s", "#2ca02c"),
    "PyTorch": ("^", "#ff7f0e"),
}


def panels(results: Mapping[str, Any], batch: int) -> list[tuple[str, list[Form]]]:
    """Title and points of each picture: every model at its first size."""
    found = []
    for model in results["models"]:
        cell = next((c for c in model.get("cells", ()) if c["batch"] == batch), None)
        points = forms(model, cell["name"]) if cell else []
        if cell and points:
            found.append((f"{model['model']}, {cell['size']} × {batch}", points))
    return found


def draw(drawn: Sequence[tuple[str, list[Form]]], file: Path) -> None:
    """Write one SVG with all panels."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "infopt", "font.size": 8})
    from matplotlib import pyplot as plt

    count = -(-len(drawn) // COLUMNS)
    figure, grid = plt.subplots(
        count, COLUMNS, figsize=(5 * COLUMNS, 3.4 * count), squeeze=False, layout="constrained"
    )
    for axes in grid.flat[len(drawn) :]:
        axes.remove()
    for axes, (title, points) in zip(grid.flat, drawn, strict=False):
        _panel(axes, title, points)
    grid.flat[0].legend(loc="upper left", fontsize=7)
    figure.savefig(file, metadata={"Date": None})
    plt.close(figure)


def _panel(axes: Any, title: str, points: Sequence[Form]) -> None:
    best = front(points)
    line = [(max(form.error, LEAST_ERROR), form.speed) for form in best]
    axes.plot(*zip(*line, strict=True), color="#999999", linewidth=1, zorder=1)
    for runtime, (marker, color) in STYLES.items():
        others = [f for f in points if f.peer.runtime == runtime and not f.peer.ours]
        axes.scatter(*_places(others), marker=marker, color=color, s=22, label=runtime, zorder=2)
    ours = [form for form in points if form.peer.ours]
    axes.scatter(*_places(ours), marker="*", color=OURS, s=90, label="infopt", zorder=3)
    for form in {id(form): form for form in (*best, *ours)}.values():
        place = (max(form.error, LEAST_ERROR), form.speed)
        axes.annotate(form.peer.name, place, xytext=(4, 4), textcoords="offset points", fontsize=6)
    axes.set(title=title, xscale="log", xlabel="error", ylabel=f"speed, {PEERS[0].name} is 1")
    axes.margins(x=0.15, y=0.15)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.2)


def _places(points: Sequence[Form]) -> tuple[list[float], list[float]]:
    return [max(form.error, LEAST_ERROR) for form in points], [form.speed for form in points]


def names(results: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Batch sizes of which there is something to draw, and the names of the files."""
    batches = sorted({c["batch"] for m in results["models"] for c in m.get("cells", ())})
    return [(batch, f"sidebyside-{batch}.svg") for batch in batches if panels(results, batch)]


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Draw all of them into ``folder``."""
    for batch, name in names(results):
        draw(panels(results, batch), folder / name)
