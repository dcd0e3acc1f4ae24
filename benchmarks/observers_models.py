"""Whole calibrations for the page on observers: a model runs, and what it computes is observed."""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import data
from benchmarks.models import (
    CACHE,
    Feeds,
    efficientnet_lite0_exported,
    minilm,
    minilm_exported,
)
from benchmarks.sessions import quiet
from infopt.backends import backend_for
from infopt.calibration import Calibrator
from infopt.evidence.equivalence import Sample
from infopt.importers import ImportOptions, import_model
from infopt.measure.timing import interleave
from infopt.quant.calibration import Request
from infopt.quant.ranges import Range, find_range
from infopt.quant.scheme import RangeMethod
from infopt.quant.spec import QuantSpec
from infopt.target import DEFAULT_TARGET, parse_target

Ranges = dict[str, Range]
TOKENS = 64


@dataclasses.dataclass(frozen=True)
class Whole:
    """A model, and the samples that it is calibrated on."""

    name: str
    file: Callable[[], Path]
    samples: Callable[[], Sequence[Feeds]]
    operators: tuple[str, ...] = ()
    """Whose values are observed; none stand for all that ONNX Runtime's quantizer knows."""


def _pictures(count: int = 32) -> list[Feeds]:
    return [{"inputs": crop[None]} for crop in data.crops(count, seed=0)]


def _tweets(count: int = 128) -> list[Feeds]:
    """Padded to one length: ONNX Runtime's collector refuses arrays of several shapes."""
    texts, _ = data.sentences("tweets")
    return [
        {name: np.pad(row, ((0, 0), (0, TOKENS - row.shape[1]))) for name, row in sample.items()}
        for sample in data.tokens(texts[:count], minilm(), TOKENS)
    ]


WHOLES = (
    Whole("EfficientNet-lite0", functools.partial(efficientnet_lite0_exported, CACHE), _pictures),
    Whole("MiniLM-L6", functools.partial(minilm_exported, CACHE), _tweets, ("MatMul", "Gemm")),
)


def theirs(
    file: Path, samples: Sequence[Feeds], operators: Collection[str], method: RangeMethod
) -> Ranges:
    """The ranges that ONNX Runtime's calibrater finds, of values that it chooses."""
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    from benchmarks.sidebyside.recipes.ort_static import Samples

    methods = {"percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}
    with tempfile.TemporaryDirectory() as room, quiet():
        calibrater = create_calibrator(
            file,
            list(operators) or None,
            augmented_model_path=str(Path(room) / "augmented.onnx"),
            calibrate_method=methods[method],
        )
        calibrater.collect_data(Samples(samples))
        found = calibrater.compute_data()
    return {
        name: (float(seen.range_value[0]), float(seen.range_value[1]))
        for name, seen in found.items()
    }


def ours(
    file: Path,
    samples: Sequence[Feeds],
    values: Collection[str],
    method: RangeMethod,
    spec: QuantSpec,
    percent: float,
) -> Ranges:
    """The ranges that infopt finds of the same values."""
    backend = backend_for(parse_target(DEFAULT_TARGET))
    model = import_model(file, ImportOptions()).model
    wanted = [Request(value, "histogram") for value in values]
    with tempfile.TemporaryDirectory() as room:
        shown = [Sample(sample, "real") for sample in samples]
        seen = Calibrator(backend, lambda: shown, Path(room))(model, wanted)
    ranges = {}
    for value in values:
        histogram = seen.histogram(value)
        assert histogram is not None
        ranges[value] = find_range(histogram, method, spec, percent=percent)
    return ranges


def measure(
    whole: Whole, method: RangeMethod, spec: QuantSpec, percent: float, seconds: float
) -> dict[str, Any]:
    """Time both on one model."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    samples = whole.samples()
    with tempfile.TemporaryDirectory() as room:
        prepared = Path(room) / "prepared.onnx"
        with quiet():
            quant_pre_process(str(whole.file()), str(prepared), skip_symbolic_shape=True)
        values = tuple(theirs(prepared, samples[:1], whole.operators, method))
        observed = whole.operators
        calls = {
            "ONNX Runtime": functools.partial(theirs, prepared, samples, observed, method),
            "infopt": functools.partial(ours, prepared, samples, values, method, spec, percent),
        }
        found = interleave(calls, seconds=seconds)
    return {
        "model": whole.name,
        "samples": len(samples),
        "values": len(values),
        "way": method,
        "medians": {name: found.summary(name).median for name in calls},
        "ratio": found.ratio("infopt").as_dict(),
    }
