"""How the time of cleaning and raising grows with the model.

``python -m benchmarks.scaling`` prints the tables and writes docs/benchmarks/scaling.md.
"""

from __future__ import annotations

import gc
import math
import os
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from benchmarks.report import DOCS, Page
from infopt.importers import import_model
from infopt.ir import queries
from infopt.pipeline import Pipeline
from infopt.presets import cleanup, raising

SIZES = (1_000, 3_000, 10_000, 30_000)
MOST_SECONDS = {10_000: 15.0}
"""Nodes → what cleaning and raising may take."""
MOST_GROWTH = 1.25
"""How much t / (n log n) may grow: a quarter for noise and caches, where a quadratic step makes
thirty of it."""

WIDTH, HEADS = 32, 4
LAYER = 75
"""Nodes of one layer."""

METHOD = f"""\
A synthetic transformer encoder of {LAYER} nodes a layer, as exporters scatter it: two layer
normalizations, an erf Gelu and an attention in their smallest parts, the shapes of all reshapes
computed anew from the activations. It is narrow, so that time goes into nodes, not into weights.
*Time* is that of clean-up and raising together, in memory; import, verification and writing are
not in it. Figures are medians over several rounds; in each round all sizes are timed once, in
shuffled order. *Growth* is time / (n · log n), relative to the smallest model: 1 and less means
that time grows no faster than n · log n. Passes that run several times are added up. A growth a
little over 1 in a pass that only walks over the nodes is that of a graph leaving the processor's
caches: from 30,000 to 60,000 nodes the time per node stays nearly the same."""


def encoder(nodes: int) -> onnx.ModelProto:
    """A model of ``nodes`` nodes or a few more, in exporter-scattered form at infopt's opset."""
    return _Writer().model(math.ceil(nodes / LAYER))


_ONE = numpy_helper.from_array(np.array([1]))


class _Writer:
    """Writes the nodes of an encoder as TorchScript's exporter does: constants are nodes, too."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._path = "/encoder"

    def model(self, layers: int) -> onnx.ModelProto:
        """The whole model."""
        mask = self._op("Cast", "attention_mask", to=TensorProto.FLOAT)
        mask = self._op("Unsqueeze", mask, self._constant(np.array([1, 2])))
        mask = self._op("Sub", self._scalar(1), mask)
        mask = self._op("Mul", mask, self._scalar(-1e4))
        x = "hidden_states"
        for layer in range(layers):
            self._path = f"/encoder/layer.{layer}"
            x = self._op("Add", x, self._attention(self._norm(x), mask))
            x = self._op("Add", x, self._mlp(self._norm(x)))
        faces = [
            helper.make_tensor_value_info("hidden_states", TensorProto.FLOAT, ["n", "s", WIDTH]),
            helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["n", "s"]),
            helper.make_tensor_value_info(x, TensorProto.FLOAT, ["n", "s", WIDTH]),
        ]
        graph = helper.make_graph(self._nodes, "encoder", faces[:2], faces[2:], self._weights)
        opset = [helper.make_opsetid("", 24)]
        return helper.make_model(graph, opset_imports=opset, ir_version=11)

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        output = f"{self._path}/{kind}_{len(self._nodes)}_output_0"
        name = output.removesuffix("_output_0")
        self._nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    def _constant(self, array: np.ndarray) -> str:
        return self._op("Constant", value=numpy_helper.from_array(array))

    def _scalar(self, value: float) -> str:
        return self._constant(np.array(value, np.float32))

    def _weight(self, *shape: int) -> str:
        array = self._rng.standard_normal(shape, np.float32)
        name = f"{self._path.strip('/').replace('/', '.')}.weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(array, name))
        return name

    def _norm(self, x: str) -> str:
        axes = self._constant(np.array([-1]))
        centered = self._op("Sub", x, self._op("ReduceMean", x, axes))
        square = self._op("Pow", centered, self._scalar(2))
        variance = self._op("Add", self._op("ReduceMean", square, axes), self._scalar(1e-5))
        normal = self._op("Div", centered, self._op("Sqrt", variance))
        return self._op("Add", self._op("Mul", normal, self._weight(WIDTH)), self._weight(WIDTH))

    def _sizes(self, x: str, *rest: int) -> str:
        """The shape of a reshape: batch and sequence of ``x``, then ``rest``."""
        axis = self._constant(np.array([0]))
        dims = []
        for index in range(2):
            dim = self._op("Gather", self._op("Shape", x), self._constant(np.array(index)), axis=0)
            dims.append(self._op("Unsqueeze", dim, axis))
        dims += [self._constant(np.array([size])) for size in rest]
        return self._op("Concat", *dims, axis=0)

    def _attention(self, x: str, mask: str) -> str:
        size = WIDTH // HEADS
        split = self._sizes(x, HEADS, size)
        q, k, v = (
            self._op(
                "Transpose",
                self._op("Reshape", self._op("MatMul", x, self._weight(WIDTH, WIDTH)), split),
                perm=perm,
            )
            for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        scores = self._op("Div", self._op("MatMul", q, k), self._root_of_size(q))
        masked = self._op("Add", scores, self._expanded(mask, x))
        weights = self._op("Softmax", masked, axis=-1)
        context = self._op("Transpose", self._op("MatMul", weights, v), perm=[0, 2, 1, 3])
        context = self._op("Reshape", context, self._sizes(context, WIDTH))
        return self._op("MatMul", context, self._weight(WIDTH, WIDTH))

    def _root_of_size(self, q: str) -> str:
        """The square root of the last dimension, which is a constant in disguise."""
        last = self._op("Gather", self._op("Shape", q), self._constant(np.array(-1)), axis=0)
        return self._op("Sqrt", self._op("Cast", last, to=TensorProto.FLOAT))

    def _expanded(self, mask: str, x: str) -> str:
        """``mask.expand(n, 1, s, s)``: a -1 in the shape would mean to leave the axis alone."""
        axis, zero, one = (self._constant(np.array(a)) for a in ([0], 0, 1))
        shape = self._op("Shape", x)
        n, s = (
            self._op("Unsqueeze", self._op("Gather", shape, index, axis=0), axis)
            for index in (zero, one)
        )
        wanted = self._op("Concat", n, self._constant(np.array([1])), s, s, axis=0)
        ones = self._op("ConstantOfShape", self._constant(np.array([4])), value=_ONE)
        keep = self._op("Equal", wanted, self._op("Mul", ones, self._constant(np.array(-1))))
        return self._op("Expand", mask, self._op("Where", keep, ones, wanted))

    def _mlp(self, x: str) -> str:
        inner = self._op("MatMul", x, self._weight(WIDTH, 4 * WIDTH))
        inner = self._op("Add", inner, self._weight(4 * WIDTH))
        erf = self._op("Erf", self._op("Div", inner, self._scalar(math.sqrt(2))))
        gate = self._op("Mul", inner, self._op("Add", erf, self._scalar(1)))
        gelu = self._op("Mul", gate, self._scalar(0.5))
        outer = self._op("MatMul", gelu, self._weight(4 * WIDTH, WIDTH))
        return self._op("Add", outer, self._weight(WIDTH))


def run_once(model: ir.Model) -> dict[str, Any]:
    """Clean and raise a copy of ``model``: seconds, whole and by pass."""
    copy = model.clone()
    gc.collect()
    start = time.perf_counter()
    trace = Pipeline((*cleanup(), *raising())).run(copy)
    seconds = time.perf_counter() - start
    passes: dict[str, float] = {}
    for run in trace:
        passes[run.spec] = passes.get(run.spec, 0.0) + run.seconds
    return {"seconds": seconds, "after": queries.count_nodes(copy), "passes": passes}


def measure(sizes: Sequence[int], rounds: int) -> dict[str, Any]:
    """All sizes, in shuffled order in each round."""
    load = os.getloadavg()[0]
    models = {size: import_model(encoder(size)).model for size in sizes}
    order = random.Random(0)
    runs: dict[int, list[dict[str, Any]]] = {size: [] for size in sizes}
    for _ in range(rounds):
        for size in order.sample(list(sizes), len(sizes)):
            runs[size].append(run_once(models[size]))
            click.echo(f"  {size:,}: {runs[size][-1]['seconds']:.2f} s", err=True)
    return {
        "load_before": load,
        "sizes": {
            str(size): {"nodes": queries.count_nodes(models[size]), "runs": of_size}
            for size, of_size in runs.items()
        },
    }


def page(results: Mapping[str, Any]) -> Page:
    """The page that tells ``results``."""
    sizes = list(results["sizes"].values())
    nodes = [of_size["nodes"] for of_size in sizes]
    whole = [_median(of_size["runs"], None) for of_size in sizes]
    growth = _growth(nodes, whole)
    rows = [
        [f"{n:,}", f"{of_size['runs'][0]['after']:,}", f"{t:.2f} s", f"{1e6 * t / n:.0f} µs", g]
        for n, of_size, t, g in zip(nodes, sizes, whole, map(_ratio, growth), strict=True)
    ]
    by_pass = []
    for name in sizes[0]["runs"][0]["passes"]:
        times = [_median(of_size["runs"], name) for of_size in sizes]
        by_pass.append(
            [name, *(f"{1e3 * t:,.1f} ms" for t in times), _ratio(_growth(nodes, times)[-1])]
        )
    rounds = len(sizes[0]["runs"])
    load = (
        f"Before the first of {rounds} rounds, the machine's load was {results['load_before']:.1f}"
    )
    return Page(
        name="scaling",
        title="How time grows with the model",
        command="python -m benchmarks.scaling",
        method=f"{METHOD}\n\n{load}: what others were doing on it.",
        tables=[
            ("Clean-up and raising", ["Nodes", "Nodes after", "Time", "Per node", "Growth"], rows),
            ("By pass", ["Pass", *(f"{n:,}" for n in nodes), "Growth"], by_pass),
        ],
        results=results,
    )


def missed(results: Mapping[str, Any]) -> list[str]:
    """Which limits were missed."""
    found = []
    sizes = results["sizes"]
    nodes = [of_size["nodes"] for of_size in sizes.values()]
    times = [_median(of_size["runs"], None) for of_size in sizes.values()]
    for size, seconds, growth in zip(sizes, times, _growth(nodes, times), strict=True):
        most = MOST_SECONDS.get(int(size), math.inf)
        if seconds > most:
            found.append(f"{int(size):,} nodes: {seconds:.1f} s, allowed {most:g} s")
        if growth > MOST_GROWTH:
            found.append(f"{int(size):,} nodes: growth {growth:.2f}, allowed {MOST_GROWTH:g}")
    return found


def _median(runs: Sequence[Mapping[str, Any]], name: str | None) -> float:
    """Median seconds of a pass, or of the whole."""
    return float(
        statistics.median(r["seconds"] if name is None else r["passes"][name] for r in runs)
    )


def _growth(nodes: Sequence[int], seconds: Sequence[float]) -> list[float]:
    """Time / (n log n), relative to the first."""
    rates = [t / (n * math.log(n)) for n, t in zip(nodes, seconds, strict=True)]
    return [rate / rates[0] if rates[0] else math.nan for rate in rates]


def _ratio(value: float) -> str:
    return f"{value:.2f}"


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@click.option("--quick", is_flag=True, help="One round of the smaller sizes; nothing is written.")
def main(output: Path, rounds: int, *, quick: bool) -> None:
    """Measure all sizes; exit code 1 if a limit is missed."""
    results = measure(SIZES[:2], 1) if quick else measure(SIZES, rounds)
    told = page(results)
    told.print()
    if not quick:
        told.write(output)
    failures = missed(results)
    if failures:
        click.echo("missed: " + "; ".join(failures), err=True)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
