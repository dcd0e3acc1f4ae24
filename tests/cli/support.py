"""Helpers of the command line's tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from click.testing import Result
from onnx import TensorProto, helper, numpy_helper

Run = Callable[..., Result]

INFOPT = [sys.executable, "-m", "infopt"]
"""The command line as a child process."""


def perceptron(*, scale: float = 1.0, hidden: int = 16, opset: int = 17) -> onnx.ModelProto:
    """Two dense layers with things to clean up: an Identity, a Dropout, shape arithmetic."""
    random = np.random.default_rng(0)
    first = random.standard_normal((8, hidden)).astype(np.float32)
    second = (scale * random.standard_normal((hidden, 4))).astype(np.float32)
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"], "shape"),
        helper.make_node("Reshape", ["x", "shape"], ["same"], "reshape"),
        helper.make_node("MatMul", ["same", "w1"], ["h1"], "dense1"),
        helper.make_node("Relu", ["h1"], ["h2"], "relu"),
        helper.make_node("Identity", ["h2"], ["h3"], "identity"),
        helper.make_node("Dropout", ["h3"], ["h4"], "dropout"),
        helper.make_node("MatMul", ["h4", "w2"], ["scores"], "dense2"),
    ]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(first, "w1"), numpy_helper.from_array(second, "w2")],
    )
    return helper.make_model(
        graph,
        producer_name="test",
        producer_version="1",
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )


def document(result: Result) -> Any:
    """The one JSON document on stdout."""
    return json.loads(result.stdout)


def no_leftovers(directory: Path, *allowed: str) -> None:
    """Nothing but ``allowed`` lies in ``directory``, hidden files included."""
    assert sorted(entry.name for entry in directory.iterdir()) == sorted(allowed)
