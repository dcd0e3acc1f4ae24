"""The speed and memory of calibration statistics, beside those of ONNX Runtime.

``python -m benchmarks.observers`` prints the tables and writes docs/benchmarks/observers.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from onnx_ir import DataType

from benchmarks import observers_models
from benchmarks.report import DOCS, Page
from infopt.measure.memory import peak_rss, run_child
from infopt.measure.timing import interleave
from infopt.quant.ranges import Range, find_range
from infopt.quant.scheme import RangeMethod
from infopt.quant.spec import QuantSpec
from infopt.quant.statistics.channels import ChannelStatistics
from infopt.quant.statistics.histogram import Histogram

LEAST_RATIO = 3.0
"""How many times as fast as ONNX Runtime's collector a method must be …"""
LEAST_ELEMENTS = 1_000_000
"""… in whole calibrations, and on a tensor of so many values over all samples; what smaller ones
take does not show."""
SAMPLES = 128
GROWTH_BATCHES = 5000
MOST_GROWTH = 50e6
"""Bytes that memory may grow by from the first batches to the last."""
SPEC = QuantSpec(DataType.UINT8, symmetric=False)
PERCENT = 99.999

METHOD = f"""\
Both get the same arrays of a tensor, {SAMPLES} samples in all, observe them and compute its range.
ONNX Runtime's is `onnxruntime.quantization`'s `HistogramCollector`, which gets the arrays as its
`PercentileCalibrater` and `EntropyCalibrater` pass them: all at once, in a list. It has their
defaults (2,048 and 128 bins, {PERCENT} %) where nothing else is said; with 128 bins and 128
quantized ones, entropy has a single threshold to choose from, so it is measured with TensorRT's
2,048 bins, too. infopt's `Histogram` has 4,096 bins for each sign and gets the arrays one by one.
Neither runs a model. Times are processor time: both use one thread and wait for nothing, and what
else runs on the machine counts less that way. *Ratio* is how many times as fast infopt is, with the
95 % interval of a bootstrap; calls are interleaved in shuffled order. *Range* is what was found. On
a tensor of a few thousand values infopt's fixed costs show: its bins are many, and its entropy
compares 60 ranges where that of ONNX Runtime's defaults compares one.

*Whole calibrations* run a model on real samples, one by one, and end with the ranges of the values
that ONNX Runtime's quantizer asks for; each reads the same prepared ONNX file. ONNX Runtime's is
`create_calibrator`, `collect_data`, `compute_data` with the defaults of each method. These times
are of the clock, with every core. MiniLM's sentences are padded to {observers_models.TOKENS}
tokens, since ONNX Runtime's collector refuses arrays of several shapes; infopt takes them as they
come."""


@dataclasses.dataclass(frozen=True)
class Case:
    """A tensor whose values are observed."""

    name: str
    shape: tuple[int, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]

    def batches(self) -> list[np.ndarray]:
        """The arrays of all batches."""
        rng = np.random.default_rng(0)
        count = SAMPLES // self.shape[0]
        return [self.draw(rng, self.shape).astype(np.float32) for _ in range(count)]


CASES = (
    Case("hidden states", (1, 128, 768), lambda rng, shape: rng.standard_t(5, shape)),
    Case("inside of an MLP", (1, 128, 3072), lambda rng, shape: _gelu(rng.normal(-0.5, 1, shape))),
    Case("after a ReLU", (1, 64, 56, 56), lambda rng, s: np.maximum(rng.laplace(0, 1, s), 0)),
    Case("pooled features", (1, 768), lambda rng, shape: rng.normal(0, 1, shape)),
    Case("batches of 32", (32, 128, 768), lambda rng, shape: rng.standard_t(5, shape)),
)


@dataclasses.dataclass(frozen=True)
class Way:
    """A method of both."""

    name: str
    method: RangeMethod
    bins: int
    """ONNX Runtime's."""


WAYS = (
    Way("percentile", "percentile", 2048),
    Way("entropy", "entropy", 128),
    Way("entropy, 2,048 bins", "entropy", 2048),
)


WHOLE_WAYS: tuple[RangeMethod, ...] = ("percentile", "entropy")


def ours(way: Way, batches: Sequence[np.ndarray]) -> Range:
    """The range that infopt finds."""
    seen = Histogram()
    for batch in batches:
        seen.update(batch)
    return find_range(seen, way.method, SPEC, percent=PERCENT)


def theirs(way: Way, batches: Sequence[np.ndarray]) -> Range:
    """The range that ONNX Runtime finds."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    collector = HistogramCollector(way.method, False, way.bins, 128, PERCENT, "same")
    with contextlib.redirect_stdout(io.StringIO()):
        collector.collect({"x": list(batches)})
        found = collector.compute_collection_result()["x"]
    return float(found[0]), float(found[1])


def measure(case: Case, way: Way, seconds: float) -> dict[str, Any]:
    """Time both on one tensor."""
    batches = case.batches()
    calls = {
        "ONNX Runtime": functools.partial(theirs, way, batches),
        "infopt": functools.partial(ours, way, batches),
    }
    found = interleave(calls, seconds=seconds, clock=time.process_time)
    return {
        "case": case.name,
        "elements": sum(batch.size for batch in batches),
        "way": way.name,
        "medians": {name: found.summary(name).median for name in calls},
        "ratio": found.ratio("infopt").as_dict(),
        "ranges": {"ONNX Runtime": theirs(way, batches), "infopt": ours(way, batches)},
    }


def growth(count: int) -> dict[str, Any]:
    """Observe ``count`` batches in a process of its own; how its peak memory grew."""
    child = run_child([sys.executable, "-m", "benchmarks.observers", "--grow", str(count)])
    if child.returncode:
        raise RuntimeError(child.stderr)
    return dict(json.loads(child.stdout))


def grow(count: int) -> dict[str, Any]:
    """Observe four tensors with every stream; peak memory after the first batches and the last."""
    pool = CASES[0].batches()
    streams = [(Histogram(), ChannelStatistics(-1)) for _ in range(4)]
    early = 0
    for index in range(count):
        for number, (histogram, channels) in enumerate(streams):
            # The range grows now and then, so that bins have to be merged as well.
            batch = pool[(index + number) % len(pool)] * np.float32(1 + index // 500)
            histogram.update(batch)
            channels.update(batch)
        if index == min(10, count - 1):
            early = peak_rss()
    return {"batches": count, "early": early, "late": peak_rss()}


def page(results: Mapping[str, Any]) -> Page:
    """The results as tables."""
    header = ["Tensor", "Elements", "ONNX Runtime", "infopt", "Ratio", "Interval", "Range, theirs"]
    tables: list[tuple[str, list[str], list[list[str]]]] = []
    for way in dict.fromkeys(row["way"] for row in results["timings"]):
        rows = []
        for row in results["timings"]:
            if row["way"] != way:
                continue
            medians, ratio, ranges = row["medians"], row["ratio"], row["ranges"]
            rows.append(
                [
                    row["case"],
                    f"{row['elements']:,}",
                    f"{1e3 * medians['ONNX Runtime']:.2f} ms",
                    f"{1e3 * medians['infopt']:.2f} ms",
                    f"{ratio['value']:.1f}",
                    f"{ratio['low']:.1f}-{ratio['high']:.1f}",
                    _range(ranges["ONNX Runtime"]),
                    _range(ranges["infopt"]),
                ]
            )
        tables.append((way.capitalize(), [*header, "Range, infopt's"], rows))
    tables.append(
        (
            "Whole calibrations",
            ["Model", "Method", "Samples", "Values", "ONNX Runtime", "infopt", "Ratio", "Interval"],
            [
                [
                    row["model"],
                    row["way"],
                    f"{row['samples']:,}",
                    f"{row['values']:,}",
                    f"{row['medians']['ONNX Runtime']:.1f} s",
                    f"{row['medians']['infopt']:.1f} s",
                    f"{row['ratio']['value']:.1f}",
                    f"{row['ratio']['low']:.1f}-{row['ratio']['high']:.1f}",
                ]
                for row in results["wholes"]
            ],
        )
    )
    grown = results["growth"]
    tables.append(
        (
            "Memory",
            ["Batches of four tensors, all streams", "After the first 10", "At the end", "Growth"],
            [
                [
                    f"{grown['batches']:,}",
                    f"{grown['early'] / 1e6:,.1f} MB",
                    f"{grown['late'] / 1e6:,.1f} MB",
                    f"{(grown['late'] - grown['early']) / 1e6:,.1f} MB",
                ]
            ],
        )
    )
    return Page(
        name="observers",
        title="Observing activations",
        command="python -m benchmarks.observers",
        method=METHOD,
        tables=tables,
        results=results,
    )


def missed(results: Mapping[str, Any]) -> list[str]:
    """Which limits were missed."""
    found = [
        f"{row['way']}, {row['case']}: {row['ratio']['value']:.1f} times as fast, wanted "
        f"{LEAST_RATIO:g}"
        for row in results["timings"]
        if row["elements"] >= LEAST_ELEMENTS and row["ratio"]["value"] < LEAST_RATIO
    ]
    found += [
        f"{row['way']}, {row['model']}: {row['ratio']['value']:.1f} times as fast, wanted "
        f"{LEAST_RATIO:g}"
        for row in results["wholes"]
        if row["ratio"]["value"] < LEAST_RATIO
    ]
    grown = results["growth"]["late"] - results["growth"]["early"]
    if grown > MOST_GROWTH:
        found.append(f"memory grew by {grown / 1e6:.1f} MB, allowed {MOST_GROWTH / 1e6:g} MB")
    return found


def _range(ends: Sequence[float]) -> str:
    return f"{ends[0]:.3g} to {ends[1]:.3g}"


def _gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(x * 0.5 * (1 + np.tanh(0.79788456 * (x + 0.044715 * x**3))))


@click.command()
@click.option("--output", type=click.Path(path_type=Path), default=DOCS, show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="For each tensor and method.")
@click.option("--quick", is_flag=True, help="One tensor, few batches; nothing is written.")
@click.option("--grow", "only_grow", type=int, hidden=True)
def main(output: Path, seconds: float, only_grow: int | None, *, quick: bool) -> None:
    """Measure all methods; exit code 1 if a limit is missed."""
    if only_grow:
        click.echo(json.dumps(grow(only_grow)))
        return
    cases = CASES[:1] if quick else CASES
    results = {
        "timings": [measure(case, way, seconds) for way in WAYS for case in cases],
        "wholes": []
        if quick
        else [
            observers_models.measure(whole, way, SPEC, PERCENT, seconds)
            for whole in observers_models.WHOLES
            for way in WHOLE_WAYS
        ],
        "growth": growth(50 if quick else GROWTH_BATCHES),
    }
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
