"""A baseline and facts in memory, for tests of the gate."""

from __future__ import annotations

import dataclasses
from typing import Any

from infopt.engine import TensorSpec
from infopt.gates.baseline import Baseline, Conditions, Reference
from infopt.gates.facts import Error, Facts, Memory, Metric
from infopt.gates.findings import Check, Finding
from infopt.measure.statistics import Ratio


def facts(**changed: Any) -> Facts:
    """An int8 engine with two products, one of them in float."""
    known = Facts(
        inputs=(TensorSpec("x", "float", ("batch", 8)),),
        outputs=(TensorSpec("scores", "float", ("batch", 4)),),
        operators={"MatMul": 2, "Relu": 1},
        fusions={"Gelu": 2, "LayerNormalization": 1},
        products={"int8": ("dense1", "dense2"), "float": ("head",)},
        size=1000,
        error={"scores": Error(0.02, 30.0)},
        metric=Metric("tasks:accuracy", 0.91),
        speed=Ratio(2.0, 1.99, 2.01, 0.99, 0.0),
        cold_start=Ratio(1.0, 0.98, 1.02, 0.99, 0.0),
        memory=Memory(200, 400),
    )
    return dataclasses.replace(known, **changed)


def baseline(**changed: Any) -> Baseline:
    """A baseline of :func:`facts`."""
    known = Baseline(
        engine="model.engine",
        digest="sha256:1",
        target="onnxruntime:cpu",
        precision="int8",
        reference=Reference("model.onnx", "sha256:2"),
        conditions=Conditions({"batch": ((1, 4),)}, 0, "sha256:3", data=False, threads=1),
        facts=facts(),
        versions={"infopt": "0", "onnxruntime": "1"},
        hardware={"processor": "p", "cores": 2},
    )
    return dataclasses.replace(known, **changed)


def check(*findings: Finding, **changed: Any) -> Check:
    """A check with these findings."""
    known = Check("model.engine", "baseline.json", findings, 12.3)
    return dataclasses.replace(known, **changed)
