"""Raises every cell of the matrix, counts what was found, and compares the outputs."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from benchmarks.coverage.exports import Export, ExportError, export
from benchmarks.coverage.families import FOLDED, KEPT, Cell, find
from infopt.importers import import_model
from infopt.ir import files, queries
from infopt.passes.matching import input_at
from infopt.pipeline import PassRun, Pipeline
from infopt.presets import cleanup, raising, tidying

PAST_KEYS = 4
"""Which input of an Attention the keys of former calls are."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of one cell."""

    cell: str
    family: str
    expected: Mapping[str, int]
    found: Mapping[str, int]
    """No more than was expected of each."""
    whole: Mapping[str, int]
    """How many of those the export has from the start: nothing was left to raise."""
    nodes: tuple[int, int]
    """After the clean-up, and after raising."""
    sizes: str
    """Which sizes the export leaves open."""
    difference: float
    """``max|a-b| / max|b|`` over all outputs, at both shapes."""
    misses: tuple[str, ...]
    """Why sites were left alone, in the words of the passes."""
    error: str = ""
    """The exporter's, where there is nothing to raise."""

    @property
    def complete(self) -> bool:
        """Whether every expected site was raised."""
        return not self.error and dict(self.found) == dict(self.expected)


def evaluate_by_name(name: str, cache: Path) -> Result:
    """:func:`evaluate`, for another process."""
    return evaluate(find(name), cache)


def evaluate(cell: Cell, cache: Path) -> Result:
    """Export, raise, count, compare."""
    expected = dict(cell.family.expected)
    try:
        exported = export(cell, cache)
    except ExportError as error:
        return Result(
            cell.name, cell.family.name, expected, {}, {}, (0, 0), "", 0.0, (), str(error)
        )
    model = import_model(exported.model).model
    Pipeline(cleanup()).run(model)
    before, whole = queries.count_nodes(model), _found(model, expected)
    trace = Pipeline((*raising(), *tidying())).run(model)
    found = _found(model, expected)
    return Result(
        cell.name,
        cell.family.name,
        expected,
        found,
        whole,
        (before, queries.count_nodes(model)),
        exported.sizes,
        _difference(exported, model),
        () if found == expected else _misses(trace),
    )


def _found(model: ir.Model, expected: Mapping[str, int]) -> dict[str, int]:
    counts = queries.count_operators(model)
    counts[FOLDED] = expected.get(FOLDED, 0) - counts["BatchNormalization"]
    attentions = [node for node in queries.nodes(model) if queries.is_standard(node, "Attention")]
    counts[KEPT] = sum(input_at(node, PAST_KEYS) is not None for node in attentions)
    return {name: min(counts[name], wanted) for name, wanted in expected.items()}


def _misses(trace: list[PassRun]) -> tuple[str, ...]:
    names = {run.spec for step in raising() for run in trace if run.spec == str(step)}
    counted = Counter(
        f"{refusal.rule}: {refusal.reason}"
        for run in trace
        if run.spec in names
        for refusal in run.refusals
    )
    return tuple(f"{count} × {what}" for what, count in counted.items())


def _difference(exported: Export, model: ir.Model) -> float:
    """The largest relative difference from the exported file, both run without optimizations."""
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        raised = files.write_onnx(model, Path(folder))[0]
        for inputs in exported.inputs:
            expected, actual = _run(exported.model, inputs), _run(raised, inputs)
            for a, b in zip(actual, expected, strict=True):
                if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
                    return float("inf")
                scale = np.nanmax(np.abs(b), initial=0.0) or 1.0
                worst = max(worst, float(np.nanmax(np.abs(a - b), initial=0.0) / scale))
    return worst


def _run(path: Path, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {value.name: inputs[value.name] for value in session.get_inputs()}
    return [np.asarray(output) for output in session.run(None, feeds)]
