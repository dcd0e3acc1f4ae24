"""Weights of 4 bits: how exact the engines are, by the way of rounding, and what they take.

``python -m benchmarks.weights`` prints the tables and writes docs/benchmarks/weights.md.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

import infopt
from benchmarks import data, models
from benchmarks.report import DOCS, Page
from infopt.measure.memory import run_child
from infopt.measure.timing import interleave

Feeds = dict[str, np.ndarray]
BLOCKS = (32, 128)
WAYS: Mapping[str, str] = {
    "nearest": "algorithm=nearest",
    "hqq": "algorithm=hqq",
    "awq": "algorithm=awq",
    "gptq": "algorithm=gptq",
    "gptq, floats": "algorithm=gptq,accuracy_level=0",
}
"""Row → the scheme."""
LIMIT = 0.7
"""What may be left of the error of rounding to nearest, where a way looks at data."""
LEAST_SIZE, MOST_MEMORY = 6e9, 3e9
"""A model of so many bytes takes so many at most."""
GB = 1e9

METHOD = """\
Each model goes through `infopt.optimize(…, precision="int4", scheme=…)`. Calibrated is on one part
of the data, compared on another: *error* is the mean squared error of the first output against the
fp32 engine, relative to the mean square of that output, and *of nearest* how much that is of the
error of rounding to nearest in blocks of the same size. *Products* says how many run as
MatMulNBits, of all that have weights of two axes and 4,096 elements or more. *Speed* is that of the
fp32 engine over this one, both timed in one run, call by call in shuffled order. Engines round
activations to 8 bits in blocks as they run (`accuracy_level=4`); *floats* stands for one that does
not. Memory is the largest resident set of a process that quantizes a model which lies in a file,
memory-mapped pages included."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model, and inputs for it."""

    name: str
    source: Callable[[Path], object]
    """What ``infopt.optimize`` takes; it gets a directory to build something in."""
    inputs: Callable[[Path], tuple[list[Feeds], list[Feeds]]]
    """Samples to calibrate on, and others to compare on; it gets the cache of data."""


SIZES = (128, 256, 256, 10)


def perceptron(directory: Path) -> Path:
    """A classifier 128 → 256 → 256 → 10 with Relu, trained for a second on :func:`clusters`."""
    layers = trained(*clusters(4096, 0), steps=100)
    tensors, nodes, value = [], [], "x"
    for number, (weight, bias) in enumerate(layers):
        for kind, array in (("weight", weight), ("bias", bias)):
            tensors.append(onnx.numpy_helper.from_array(array, f"{kind}{number}"))
        inputs = [value, f"weight{number}", f"bias{number}"]
        nodes.append(onnx.helper.make_node("Gemm", inputs, [f"sum{number}"], transB=1))
        value = f"sum{number}"
        if number + 1 < len(layers):
            nodes.append(onnx.helper.make_node("Relu", [value], [f"relu{number}"]))
            value = f"relu{number}"
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", size])
        for name, size in (("x", SIZES[0]), (value, SIZES[-1]))
    ]
    graph = onnx.helper.make_graph(nodes, "perceptron", ends[:1], ends[1:], tensors)
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9
    )
    onnx.save(model, directory / "perceptron.onnx")
    return directory / "perceptron.onnx"


def trained(
    points: np.ndarray, labels: np.ndarray, steps: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights ``(out, in)`` and biases after so many steps of Adam on batches of 128."""
    rng = np.random.default_rng(0)
    layers = []
    for inputs, outputs in itertools.pairwise(SIZES):
        weight = rng.normal(0, math.sqrt(2 / inputs), (outputs, inputs)).astype(np.float32)
        layers.append((weight, np.zeros(outputs, np.float32)))
    parameters = [array for layer in layers for array in layer]
    means, squares = ([np.zeros_like(array) for array in parameters] for _ in range(2))
    for step in range(1, steps + 1):
        batch = rng.integers(0, len(points), 128)
        for array, slope, mean, square in zip(
            parameters, _slopes(layers, points[batch], labels[batch]), means, squares, strict=True
        ):
            mean += 0.1 * (slope - mean)
            square += 0.001 * (slope**2 - square)
            size = np.sqrt(square / (1 - 0.999**step)) + 1e-8
            array -= 3e-3 * (mean / (1 - 0.9**step)) / size
    return layers


def _slopes(
    layers: Sequence[tuple[np.ndarray, np.ndarray]], points: np.ndarray, labels: np.ndarray
) -> list[np.ndarray]:
    """The gradient of the cross entropy, for each weight and bias in turn."""
    read = [points]
    for weight, bias in layers:
        read.append(np.maximum(read[-1] @ weight.T + bias, 0))
    scores = read[-2] @ layers[-1][0].T + layers[-1][1]
    chances = np.exp(scores - scores.max(axis=1, keepdims=True))
    back = chances / chances.sum(axis=1, keepdims=True)
    back[np.arange(len(labels)), labels] -= 1
    back /= len(labels)
    found: list[np.ndarray] = []
    for number in reversed(range(len(layers))):
        found = [back.T @ read[number], back.sum(axis=0), *found]
        back = (back @ layers[number][0]) * (read[number] > 0)
    return found


def clusters(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points around ten centres that vary in few directions, as real features do.

    Features have scales of their own: a few are large, most are small.

    Returns:
        float32 ``(count, 128)``, and int64 ``(count,)``: the centre of each.
    """
    fixed = np.random.default_rng(1000)
    directions = fixed.normal(0, 1, (24, 128)) * np.exp(fixed.normal(0, 1, 128))
    centres = fixed.normal(0, 1, (10, 24))
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count)
    inner = centres[labels] + rng.normal(0, 1, (count, 24))
    points = inner @ directions / 5 + rng.normal(0, 0.1, (count, 128))
    return points.astype(np.float32), labels.astype(np.int64)


def _points(_: Path) -> tuple[list[Feeds], list[Feeds]]:
    return tuple(  # type: ignore[return-value]
        [{"x": part} for part in np.split(clusters(1024, seed)[0], 8)] for seed in (1, 2)
    )


def _sentences(cache: Path) -> tuple[list[Feeds], list[Feeds]]:
    """200 tweets to calibrate on, 200 others to compare on: by turns, 10 apart."""
    texts, _ = data.sentences("tweets", cache)
    samples = data.tokens(texts[:4000:10], models.minilm(), 64)
    return samples[::2], samples[1::2]


SUBJECTS = (
    Subject("Perceptron", perceptron, _points),
    Subject("MiniLM-L6", lambda _: models.minilm(), _sentences),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One engine."""

    way: str
    block: int
    error: float
    """Mean squared error, relative to the mean square."""
    products: int
    """How many run as MatMulNBits …"""
    quantized: int
    """… of how many that were quantized."""
    bytes: int
    seconds: float
    """To make the engine."""
    speed: float = 0.0
    """Times as fast as the fp32 engine; 0 where that was not measured."""


def rows(
    subject: Subject,
    room: Path,
    cache: Path,
    *,
    ways: Mapping[str, str] = WAYS,
    blocks: Sequence[int] = BLOCKS,
    seconds: float = 0.0,
) -> list[Row]:
    """An engine for each way and block size."""
    source = subject.source(room)
    known, unseen = subject.inputs(cache)
    options: dict[str, Any] = {"verify": False, "measure": False}
    fp32 = infopt.load(infopt.optimize(source, room / "fp32", **options).path)
    names = {spec.name for spec in fp32.inputs}
    known, unseen = ([_only(feeds, names) for feeds in part] for part in (known, unseen))
    right = _first(fp32, unseen)
    found = []
    for block in blocks:
        for way, scheme in ways.items():
            start = time.perf_counter()
            engine = infopt.optimize(
                source,
                room / f"{block}-{way}",
                precision="int4",
                scheme=f"{scheme},block={block}",
                data=known,
                **options,
            )
            took = time.perf_counter() - start
            session = infopt.load(engine.path)
            outcome: Any = engine.manifest.evidence["outcome"]
            changes = sum(
                change["rule"] == "quantize-weights"
                for run in engine.manifest.passes
                for change in run["changes"]
            )
            speed = 0.0
            if seconds:
                calls = {
                    "fp32": functools.partial(fp32, unseen[0]),
                    "int4": functools.partial(session, unseen[0]),
                }
                speed = interleave(calls, seconds=seconds).ratio("int4").value
            found.append(
                Row(
                    way,
                    block,
                    _error(_first(session, unseen), right),
                    outcome["kernels"].get("MatMulNBits", 0),
                    changes,
                    engine.nbytes,
                    took,
                    speed,
                )
            )
    return found


def _only(feeds: Feeds, names: set[str]) -> Feeds:
    return {name: array for name, array in feeds.items() if name in names}


def _first(session: Any, samples: Sequence[Feeds]) -> list[np.ndarray]:
    return [next(iter(session(feeds).values())).astype(np.float64) for feeds in samples]


def _error(found: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    noise = sum(float(((a - b) ** 2).sum()) for a, b in zip(found, right, strict=True))
    return noise / sum(float((b**2).sum()) for b in right)


def left_of_nearest(found: Sequence[Row]) -> dict[tuple[str, int], float]:
    """(way, block) → its error over that of rounding to nearest in such blocks."""
    nearest = {row.block: row.error for row in found if row.way == "nearest"}
    return {(row.way, row.block): row.error / nearest[row.block] for row in found}


def memory(model: Path, room: Path, scheme: str = "algorithm=nearest") -> tuple[int, float, int]:
    """Quantize a model file in a process of its own: peak bytes, seconds, bytes written.

    Raises:
        RuntimeError: It failed.
    """
    engine = room / "engine"
    code = (
        "import sys, infopt; infopt.optimize(sys.argv[1], sys.argv[2], precision='int4', "
        "scheme=sys.argv[3], verify=False)"
    )
    child = run_child([sys.executable, "-c", code, str(model), str(engine), scheme], timeout=3600)
    if child.returncode:
        raise RuntimeError(child.stderr)
    written = sum(file.stat().st_size for file in engine.rglob("*") if file.is_file())
    return child.peak_rss, child.seconds, written


def missed(results: Mapping[str, Any]) -> list[str]:
    """Which limits were missed."""
    wrong = []
    for name, found in _rows(results).items():
        wrong += [
            f"{name}: {way} in blocks of {block} leaves {left:.0%} of the error of nearest"
            for (way, block), left in left_of_nearest(found).items()
            if way in ("awq", "gptq") and left > LIMIT
        ]
        wrong += [
            f"{name}: {row.way}: {row.products} of {row.quantized} products run as MatMulNBits"
            for row in found
            if row.products < row.quantized
        ]
    large = results.get("large")
    if large and (large["bytes"] < LEAST_SIZE or large["peak"] > MOST_MEMORY):
        wrong.append(f"{large['bytes'] / GB:.1f} GB took {large['peak'] / GB:.1f} GB of memory")
    return wrong


def page(results: Mapping[str, Any]) -> Page:
    """The results as tables."""
    header = ["Engine", "Error", "Of nearest", "Products", "Speed", "Written", "Time"]
    tables = [(name, header, _table(found)) for name, found in _rows(results).items()]
    large = results.get("large")
    if large:
        sizes = [f"{large[key] / GB:.2f} GB" for key in ("bytes", "peak", "written")]
        row = [*sizes, f"{large['seconds']:.0f} s"]
        tables.append(("A large model", ["Model", "Memory", "Written", "Time"], [row]))
    return Page(
        name="weights",
        title=f"Weights of 4 bits, {results['threads']} threads of a CPU",
        command="python -m benchmarks.weights",
        method=METHOD,
        tables=tables,
        results=results,
    )


def _rows(results: Mapping[str, Any]) -> dict[str, list[Row]]:
    return {name: [Row(**row) for row in found] for name, found in results["models"].items()}


def _table(found: Sequence[Row]) -> list[list[str]]:
    left = left_of_nearest(found)
    return [
        [
            f"{row.way}, blocks of {row.block}",
            f"{row.error:.2e}",
            f"{left[row.way, row.block]:.0%}",
            f"{row.products} of {row.quantized}",
            f"{row.speed:.2f}" if row.speed else "",
            f"{row.bytes / 1e6:,.1f} MB",
            f"{row.seconds:.1f} s",
        ]
        for row in found
    ]


@click.command()
@click.option("--cache", type=click.Path(path_type=Path), default=data.CACHE, show_default=True)
@click.option("--models", "built", type=click.Path(path_type=Path), default=models.CACHE)
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="Of timing for each engine.")
@click.option("--large/--no-large", default=True, help="Quantize 6 GB, too, and write the page.")
def main(cache: Path, built: Path, output: Path, seconds: float, *, large: bool) -> None:
    """Measure weights of 4 bits; exit code 1 if a limit is missed."""
    results: dict[str, Any] = {"threads": len(os.sched_getaffinity(0)), "models": {}}
    for subject in SUBJECTS:
        click.echo(f"{subject.name} …", err=True)
        with tempfile.TemporaryDirectory() as room:
            found = rows(subject, Path(room), cache, seconds=seconds)
        results["models"][subject.name] = [dataclasses.asdict(row) for row in found]
    if large:
        click.echo("6 GB …", err=True)
        model = models.synthetic(built, layers=96)
        size = sum(file.stat().st_size for file in model.parent.glob(f"{model.stem}.*"))
        with tempfile.TemporaryDirectory(dir=built) as room:
            peak, took, written = memory(model, Path(room))
        results["large"] = {"bytes": size, "peak": peak, "written": written, "seconds": took}
    report = page(results)
    report.print()
    if large:
        report.write(output)
    wrong = missed(results)
    if wrong:
        click.echo("missed: " + "; ".join(wrong), err=True)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
