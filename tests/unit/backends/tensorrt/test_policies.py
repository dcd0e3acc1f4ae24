"""Real exports as TensorRT wants them quantized: where Q/DQ stand, what it costs, if it builds."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from benchmarks import models
from benchmarks.coverage.exports import export
from benchmarks.coverage.families import find
from infopt.backends.tensorrt.policies import precision
from infopt.errors import UsageError
from infopt.importers import import_model
from infopt.pipeline import Pipeline
from infopt.presets import cleanup, raising, tidying
from infopt.target import parse_target
from tests.support.calibrating import observe_on
from tests.support.models import Array, check, run
from tests.support.placement import quantized, violations
from tests.support.tensorrt import built, needs_tensorrt

TARGET = parse_target("tensorrt-rtx:sm89")
Inputs = Sequence[Mapping[str, Array]]


@dataclasses.dataclass(frozen=True)
class Subject:
    """An export, inputs to calibrate on and one to judge by, and what is to come of it."""

    name: str
    make: Callable[[Path], tuple[Path, Inputs]]
    int8: Mapping[str, int]
    """How many operators read integers."""
    fp8: Mapping[str, int]
    sqnr: tuple[float, float]
    """The least signal-to-noise ratio of the first output, in dB, at int8 and at fp8."""


def _cell(name: str, room: Path) -> tuple[Path, Inputs]:
    exported = export(find(name), room)
    base = exported.inputs[0]
    return exported.model, [_changed(base, seed) for seed in range(5)]


def _changed(inputs: Mapping[str, Array], seed: int) -> Mapping[str, Array]:
    """Other numbers; masks stay."""
    rng = np.random.default_rng(seed)
    return {
        name: rng.normal(size=array.shape).astype(np.float32)
        if array.dtype == np.float32
        else (array if "mask" in name else rng.permuted(array.reshape(-1)).reshape(array.shape))
        for name, array in inputs.items()
    }


def _lite(room: Path) -> tuple[Path, Inputs]:
    rng = np.random.default_rng(0)
    # Smooth patterns, like pictures; on noise such a network sees next to nothing.
    grid = np.linspace(0, 1, 224, dtype=np.float32)
    waves = [
        np.stack([np.sin(a * grid[:, None] + b * grid[None] + c) for c in (0, 1, 2)])
        for a, b in rng.uniform(-40, 40, (5, 2))
    ]
    return models.efficientnet_lite0_exported(room), [
        {"inputs": wave[None].astype(np.float32)} for wave in waves
    ]


def _minilm(room: Path) -> tuple[Path, Inputs]:
    rng = np.random.default_rng(0)
    return models.minilm_exported(room), [
        models.ZOO[0].feeds(2, size, rng) for size in (128, 96, 64, 48, 20)
    ]


SUBJECTS = (
    Subject(
        "bert",
        functools.partial(_cell, "bert-dynamo-sdpa-mask"),
        {"Gemm": 8},
        {"Gemm": 8},
        (28, 21),
    ),
    Subject(
        "vit", functools.partial(_cell, "vit-dynamo-sdpa-plain"), {"Gemm": 8}, {"Gemm": 8}, (36, 28)
    ),
    Subject(
        "resnet",
        functools.partial(_cell, "resnet-dynamo-none-plain"),
        {"Add": 2, "Conv": 8},
        {"Add": 2, "Conv": 8},
        (31, 22),
    ),
    Subject(
        "efficientnet-lite0",
        _lite,
        {"Add": 9, "Conv": 48, "Gemm": 1},
        {"Add": 9, "Conv": 32, "Gemm": 1},
        (10, 11.5),
    ),
    Subject("minilm", _minilm, {"Gemm": 25}, {"Gemm": 25}, (10.5, 19.5)),
)


class Case:
    """A subject, raised, and what becomes of it."""

    def __init__(self, subject: Subject, room: Path) -> None:
        file, self.inputs = subject.make(room)
        self.subject = subject
        self.model = import_model(file).model
        ir.external_data.load_to_model(self.model)  # so that it can run without its folder
        Pipeline((*cleanup(), *raising(), *tidying())).run(self.model)

    @functools.cache  # noqa: B019 - the cases live as long as the module's tests
    def written(self, name: str) -> ir.Model:
        """The model in a precision, calibrated on all inputs but the last."""
        other = self.model.clone()
        steps = Pipeline(precision(TARGET, name, data=True))
        steps.run(other, observe=lambda seen, asked: observe_on(seen, asked, self.inputs[:-1]))
        return other

    def sqnr(self, other: ir.Model) -> float:
        """Signal to noise of the first output, in dB, on the last input."""
        right, found = (
            run(each, self.inputs[-1])[0].astype(np.float64) for each in (self.model, other)
        )
        return float(10 * np.log10(np.sum(right**2) / np.sum((right - found) ** 2)))


@pytest.fixture(scope="module", params=SUBJECTS, ids=lambda subject: subject.name)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(request.param, tmp_path_factory.mktemp(request.param.name))


@pytest.mark.slow
def test_int8_keeps_to_the_rules(case: Case) -> None:
    model = case.written("int8")
    check(model)
    assert violations(model) == []
    assert quantized(model) == case.subject.int8
    assert case.sqnr(model) > case.subject.sqnr[0]


@pytest.mark.slow
def test_fp8_keeps_to_the_rules(case: Case) -> None:
    model = case.written("fp8")
    check(model)
    assert violations(model, grouped=False) == []
    assert quantized(model) == case.subject.fp8
    assert case.sqnr(model) > case.subject.sqnr[1]
    types = {value.dtype for value in model.graph.initializers.values()}
    assert ir.DataType.FLOAT8E4M3FN in types
    assert not types & {ir.DataType.INT8, ir.DataType.UINT8}


@needs_tensorrt
@pytest.mark.slow
@pytest.mark.parametrize("name", ["int8", "fp8", "int4"])
def test_tensorrt_builds_it(case: Case, name: str) -> None:
    assert built(case.written(name), {}) > 0


def test_what_it_cannot_run_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"int2 is not for tensorrt-rtx:sm89.*choose one of fp32, fp16"
    ):
        precision(TARGET, "int2", data=True)


def test_floats_of_8_bits_take_a_gpu_that_has_them() -> None:
    with pytest.raises(UsageError, match=r"from sm89 on; leave out sm80\+sm86, or choose int8"):
        precision(parse_target("tensorrt-rtx:sm80+sm86+sm89"), "fp8", data=True)
    assert precision(parse_target("tensorrt-rtx"), "fp8", data=True)


def test_data_changes_what_can_do_without() -> None:
    assert "calibrate" not in str(Pipeline(precision(TARGET, "int4", data=False)))
    assert "calibrate" in str(Pipeline(precision(TARGET, "int4", data=True)))
