"""What an imported model computes, beside what its framework computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from infopt.importers import Imported


def session(model: ir.Model) -> onnxruntime.InferenceSession:
    """A session with optimizations off."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)


def inputs(imported: Imported) -> dict[str, list[int | str | None]]:
    """The inputs of the graph and their shapes, dynamic dimensions by name."""
    return {
        str(v.name): [d if isinstance(d, int) else d.value for d in v.shape or []]
        for v in imported.model.graph.inputs
    }


def outputs(imported: Imported) -> list[str]:
    """The names of the graph's outputs."""
    return [str(v.name) for v in imported.model.graph.outputs]


def assert_same(imported: Imported, tolerance: float = 1e-5) -> None:
    """The graph computes on the samples what the framework computed, at every size."""
    assert imported.samples
    assert len(imported.samples) == len(imported.expected)
    runner = session(imported.model)
    for sample, expected in zip(imported.samples, imported.expected, strict=True):
        assert list(expected) == outputs(imported)
        assert_close(runner, sample, expected, tolerance)


def assert_close(
    runner: onnxruntime.InferenceSession,
    sample: dict[str, Any],
    expected: dict[str, Any],
    tolerance: float = 1e-5,
) -> None:
    """One run of the graph gives ``expected``."""
    results = runner.run(list(expected), sample)
    for (name, wanted), got in zip(expected.items(), results, strict=True):
        assert got.shape == wanted.shape, name
        assert got.dtype == wanted.dtype, name
        scale = max(float(np.abs(wanted).max(initial=0)), 1e-3)
        assert float(np.abs(got - wanted).max(initial=0)) <= tolerance * scale, name
