"""ONNX's own node cases: one operator each, with inputs and the outputs that are right."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Sequence

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir

from infopt.errors import ModelError
from infopt.ir.shapes import infer_shapes
from tests.support.models import Array, run

MAX_OPSET = 22
IR_VERSION = 10

CASE_RTOL, CASE_ATOL = 1e-3, 1e-6
"""How far ONNX Runtime may be from a case's outputs: ONNX's own tolerance."""
RTOL, ATOL = 1e-5, 1e-7
"""How far a changed model may be from what ONNX Runtime computes with the untouched one."""


@dataclasses.dataclass
class Subject:
    """One model of a case, ready for passes, with its inputs and what the runtime makes of them.

    A case becomes up to three subjects: as it is; with all inputs but the first made
    initializers; with all of them made initializers.
    """

    name: str
    model: ir.Model
    inputs: dict[str, Array]
    expected: list[Array]


def mismatch(
    expected: Sequence[Array],
    actual: Sequence[Array],
    rtol: float = RTOL,
    atol: float = ATOL,
    *,
    share: float = 0.0,
) -> str | None:
    """How two lists of outputs differ, or ``None``; ``share`` of the largest number is allowed."""
    for index, (old, new) in enumerate(zip(expected, actual, strict=True)):
        if old.dtype != new.dtype or old.shape != new.shape:
            return f"output {index}: {old.dtype}{old.shape} became {new.dtype}{new.shape}"
        try:
            if old.dtype.kind in "fc" or old.dtype.kind == "V":
                a, b = old.astype(np.float64), new.astype(np.float64)
                largest = float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) if share else 0.0
                np.testing.assert_allclose(b, a, rtol=rtol, atol=atol + share * largest)
            else:
                np.testing.assert_array_equal(new, old)
        except AssertionError as error:
            return f"output {index}: {str(error).strip().splitlines()[0]}"
    return None


@functools.cache
def subjects() -> list[Subject]:
    """All cases of opset at most 22 that ONNX Runtime computes right as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        cases = collect_testcases(None)
    found: list[Subject] = []
    for case in cases:
        assert case.model is not None
        opset = max((o.version for o in case.model.opset_import if o.domain == ""), default=0)
        if 0 < opset <= MAX_OPSET and case.data_sets:
            found += _subjects(case.name, case.model, *case.data_sets[0])
    return found


def _subjects(
    name: str, proto: onnx.ModelProto, inputs: Sequence[object], outputs: Sequence[object]
) -> list[Subject]:
    if not all(isinstance(x, (np.ndarray, np.generic)) for x in [*inputs, *outputs]):
        return []  # sequences and optionals: no pass touches what computes them
    proto.ir_version = IR_VERSION
    names = [value.name for value in proto.graph.input]
    feeds = {key: np.asarray(value) for key, value in zip(names, inputs, strict=False)}
    expected = [np.asarray(value) for value in outputs]
    try:
        actual = run(proto, feeds)
    except Exception:  # whatever the runtime does not know is no subject
        return []
    if mismatch(expected, actual, CASE_RTOL, CASE_ATOL) is not None:
        return []
    result = []
    for suffix, constants in (("", []), ("/one-input", names[1:]), ("/no-input", names)):
        if suffix and not constants:
            continue
        variant = onnx.ModelProto.FromString(proto.SerializeToString())
        _make_initializers(variant, {key: feeds[key] for key in constants})
        model = ir.from_proto(variant)
        try:
            infer_shapes(model)
        except ModelError:
            if not suffix:
                return []
            continue
        kept = {key: value for key, value in feeds.items() if key not in constants}
        result.append(Subject(name + suffix, model, kept, actual))
    return result


def _make_initializers(proto: onnx.ModelProto, constants: dict[str, Array]) -> None:
    rest = [value for value in proto.graph.input if value.name not in constants]
    types = {value.name: value.type.tensor_type.elem_type for value in proto.graph.input}
    del proto.graph.input[:]
    proto.graph.input.extend(rest)
    for name, array in constants.items():
        tensor = onnx.numpy_helper.from_array(array, name)
        assert tensor.data_type == types[name]
        proto.graph.initializer.append(tensor)
