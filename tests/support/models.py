"""Small models: from text, to text, and what they compute."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import onnx.printer
import onnx_ir as ir

from infopt.backends.onnxruntime import saturation
from infopt.backends.onnxruntime.emulation import computes_in_halves, emulated
from infopt.ir.shapes import infer_shapes
from infopt.passes.base import Pass, Preserves

HEADER = '<ir_version: 11, opset_import: ["" : 24]>\n'
SIZES = {"N": 2, "M": 3, "T": 4}
"""The sizes of named dimensions; any other is 2. A total T is that of two others."""

Array = npt.NDArray[np.generic]


def parse(text: str) -> ir.Model:
    """The model of an ONNX text, with inferred shapes; a header is added where there is none."""
    proto = onnx.parser.parse_model(text if text.lstrip().startswith("<") else HEADER + text)
    model = ir.from_proto(proto)
    infer_shapes(model)
    return model


def to_text(model: ir.Model) -> str:
    """The ONNX text of a model, without the types of its inner values."""
    proto = ir.to_proto(model)
    _forget_inner_types(proto.graph)
    for function in proto.functions:
        del function.value_info[:]
    return str(onnx.printer.to_text(proto)).strip()


def _forget_inner_types(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    for node in graph.node:
        for attr in node.attribute:
            for subgraph in [attr.g, *attr.graphs]:
                _forget_inner_types(subgraph)


def check(model: ir.Model) -> None:
    """Raise where the model is not valid: ONNX's own checker, then strict shape inference."""
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    infer_shapes(model.clone())


def feeds(model: ir.Model, seed: int = 0) -> dict[str, Array]:
    """Seeded inputs of the model: small numbers, so that integers do not overflow."""
    rng = np.random.default_rng(seed)
    result: dict[str, Array] = {}
    for value in model.graph.inputs:
        assert value.name is not None
        assert value.dtype is not None
        if value.is_initializer() and not value.dtype.is_floating_point():
            continue  # a default that is left as it is; floating-point ones are overridden
        dims = [] if value.shape is None else list(value.shape)
        shape = [dim if isinstance(dim, int) else SIZES.get(dim.value or "", 2) for dim in dims]
        if value.dtype is ir.DataType.STRING:
            result[value.name] = np.array(rng.choice(["a", "b"], shape), object)
        elif value.dtype is ir.DataType.BOOL:
            result[value.name] = rng.integers(0, 2, shape).astype(bool)
        elif value.dtype.is_floating_point():
            result[value.name] = np.asarray(rng.normal(size=shape)).astype(value.dtype.numpy())
        else:
            result[value.name] = rng.integers(0, 4, shape).astype(value.dtype.numpy())
    return result


def run(model: ir.Model | onnx.ModelProto, inputs: Mapping[str, Array]) -> list[Array]:
    """What ONNX Runtime computes with all its optimizations off; 16 bits as on a device."""
    import onnxruntime as ort

    if isinstance(model, ir.Model) and computes_in_halves(model):
        model = emulated(model)
    proto = model if isinstance(model, onnx.ModelProto) else ir.to_proto(model)
    names = {value.name for value in proto.graph.input}
    if saturation.saturates():
        exact = ir.from_proto(proto)
        proto = ir.to_proto(exact) if saturation.move_to_uint8(exact) else proto
    session = ort.InferenceSession(
        proto.SerializeToString(), _session_options(), providers=["CPUExecutionProvider"]
    )
    used = {name: array for name, array in inputs.items() if name in names}
    return [
        np.asarray(output) if not isinstance(output, list) else np.array(output, object)
        for output in session.run(None, used)
    ]


@functools.cache
def _session_options() -> object:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return options


def assert_same(
    before: Sequence[Array],
    after: Sequence[Array],
    a_pass: Pass | type[Pass] | None = None,
    *,
    changes: int = 0,
) -> None:
    """The outputs agree: bit for bit, or as far as the pass promises.

    A pass that is approximate may round the inputs and the output of each node that it changed.
    """
    tolerance = 0.0
    if a_pass is not None and a_pass.preserves is not Preserves.EXACT:
        tolerance = a_pass.tolerance or 2 * changes * a_pass.rounding
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert old.dtype == new.dtype
        assert old.shape == new.shape
        if tolerance and old.dtype.kind == "f" and old.size:
            a, b = old.astype(np.float64), new.astype(np.float64)
            finite = np.isfinite(a)
            np.testing.assert_array_equal(a[~finite], b[~finite])
            if finite.any():
                scale = float(np.abs(a[finite]).max()) or 1.0
                # In 16 bits what is computed in another order differs by roundings of that type.
                allowed = max(tolerance, 2**-8 if old.dtype.itemsize == 2 else 0.0)
                assert float(np.abs(a - b)[finite].max()) <= allowed * scale
        else:
            np.testing.assert_array_equal(old, new)
            if old.dtype.kind == "f":
                zero = old == 0
                np.testing.assert_array_equal(np.signbit(old[zero]), np.signbit(new[zero]))
