"""What a model was trained to be quantized with is in the engine, to the integer."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import infopt
from infopt.errors import ImportFailed, UsageError
from infopt.importers import ImportOptions, import_model
from infopt.ir import files, queries
from tests.support.exports import assert_same
from tests.support.quantized import accuracy_of, converted, network, prepared, train

Program = torch.export.ExportedProgram


@pytest.fixture(scope="module")
def trained() -> torch.fx.GraphModule:
    """A network with fake quantization, trained on digits."""
    model = prepared(network())
    train(model, epochs=5)
    return model


@pytest.fixture(scope="module")
def program(trained: torch.fx.GraphModule) -> Program:
    return converted(trained)


def weights(program: Program) -> dict[str, np.ndarray]:
    """The integers that torch has stored."""
    known = {**program.state_dict, **program.constants}
    return {name: it.numpy() for name, it in known.items() if it.dtype == torch.int8}


def scales(program: Program) -> list[np.ndarray]:
    """The scales of weights, one for each output."""
    known = {**program.state_dict, **program.constants}
    return [it.float().numpy() for name, it in known.items() if "_scale_" in name]


def activations(program: Program) -> list[tuple[float, int]]:
    """Scale and zero point of each value that is rounded."""
    quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
    return [node.args[1:3] for node in program.graph.nodes if node.target is quantize]


def _constants(model: ir.Model, kind: ir.DataType) -> list[np.ndarray]:
    values = model.graph.initializers.values()
    return [v.const_value.numpy() for v in values if v.const_value and v.dtype is kind]


def _among(wanted: np.ndarray, found: list[np.ndarray]) -> bool:
    turned = [*found, *(each.T for each in found)]  # a product may store its weights transposed
    return any(np.array_equal(wanted, each) for each in turned)


@pytest.mark.slow
def test_the_engine_has_the_integers_and_the_scales_of_the_training(
    program: Program, tmp_path: Path
) -> None:
    engine = infopt.optimize(program, tmp_path / "engine", precision="int8-trained", measure=False)
    model = files.read_onnx(engine.file("model.onnx"))
    integers, floats = (_constants(model, kind) for kind in (ir.DataType.INT8, ir.DataType.FLOAT))
    wanted = weights(program)
    assert len(wanted) == 3
    assert all(len(np.unique(each)) > 20 for each in wanted.values())
    assert all(_among(each, integers) for each in wanted.values())
    assert all(_among(each, floats) for each in scales(program))
    # No weight has gone back to floats: what is left of them are scales and biases.
    assert max(each.size for each in floats) <= 32
    known = {(each.item()) for each in floats if each.size == 1}
    assert {np.float32(scale).item() for scale, _ in activations(program)} <= known

    outcome = engine.manifest.evidence["outcome"]
    assert (outcome["integer"], outcome["floating"]) == (3, [])
    assert engine.manifest.evidence["export"]["holds"]


@pytest.mark.slow
def test_the_engine_is_as_good_as_the_converted_module(program: Program, tmp_path: Path) -> None:
    engine = infopt.optimize(program, tmp_path / "engine", precision="int8-trained", measure=False)
    session = infopt.load(engine.path)
    module = program.module()
    right = accuracy_of(lambda pictures: module(pictures).detach().numpy())
    assert right > 0.9
    found = accuracy_of(lambda pictures: session(input=pictures.numpy())["output"])
    assert abs(found - right) <= 0.005  # of 397 digits, one more or less


@pytest.mark.slow
def test_weights_that_are_rounded_at_every_call_become_the_same_integers(
    trained: torch.fx.GraphModule, program: Program
) -> None:
    unfolded = converted(trained, fold_quantize=False)
    assert not weights(unfolded)
    imported = import_model(unfolded)
    assert_same(imported)
    integers = [each for each in _constants(imported.model, ir.DataType.INT8) if each.ndim > 1]
    assert all(_among(each, integers) for each in weights(program).values())
    assert {n for n in imported.model.graph.initializers if n.endswith("_quantized")} == {
        "0.weight_quantized", "4.weight_quantized", "7.weight_quantized",
    }  # fmt: skip
    operators = queries.count_operators(imported.model)
    assert operators["QuantizeLinear"] == len(activations(program))
    assert "Clip" not in operators


def test_a_part_of_the_range_stays_a_part() -> None:
    layers = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    model = prepared(nn.Sequential(*layers), reduce_range=True)
    train(model, epochs=1)
    program = converted(model)
    imported = import_model(program)
    assert queries.count_operators(imported.model)["Clip"] == len(activations(program))
    # Brighter than any picture of the training: more than 127 steps.
    bright = torch.full((2, 1, 8, 8), 9.0)
    again = import_model(program, ImportOptions(example_inputs=(bright,)))
    assert_same(again)


def test_layers_over_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    example = torch.randn(2, 7, 32)
    model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 16))
    ready = prepared(model, example)
    for _ in range(5):
        ready(torch.randn(8, 7, 32))
    engine = infopt.optimize(
        converted(ready, example), tmp_path / "engine", precision="int8-trained", measure=False
    )
    model_file = files.read_onnx(engine.file("model.onnx"))
    operators = queries.count_operators(model_file)
    assert operators["com.microsoft::MatMulIntegerToFloat"] == 2
    assert "Transpose" not in operators
    assert engine.manifest.evidence["outcome"]["integer"] == 2


# Programs in files --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_of_it_needs_nothing_but_torch(program: Program, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, tmp_path / "trained.pt2")
    code = (
        "import sys\n"
        "for name in ('torchao', 'lightning', 'transformers'): sys.modules[name] = None\n"
        "from infopt.cli import main\nmain()"
    )
    command = ["optimize", "trained.pt2", "-o", "engine", "--precision", "int8-trained"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--no-bench"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    model = files.read_onnx(tmp_path / "engine" / "model.onnx")
    integers = _constants(model, ir.DataType.INT8)
    assert all(_among(each, integers) for each in weights(program).values())


# Fake quantization --------------------------------------------------------------------------


class Fake(nn.Module):
    """Rounds as a training does, to integers of any range."""

    def __init__(self, weights: tuple[int, int], activations: tuple[int, int]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 8, 3)
        peaks = self.conv.weight.detach().abs().amax((1, 2, 3))
        self.register_buffer("scales", peaks / weights[1])
        self.register_buffer("zeros", torch.zeros(8, dtype=torch.int32))
        self.register_buffer("scale", torch.tensor([3.0 / activations[1]]))
        self.register_buffer("zero", torch.tensor([2], dtype=torch.int32))
        self.ranges = weights, activations

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        own = dict(self.named_buffers())
        weights, activations = self.ranges
        x = torch.fake_quantize_per_tensor_affine(x, own["scale"], own["zero"], *activations)
        rounded = torch.fake_quantize_per_channel_affine(
            self.conv.weight, own["scales"], own["zeros"], 0, *weights
        )
        y = nn.functional.conv2d(x, rounded, self.conv.bias)
        return torch.fake_quantize_per_tensor_affine(y, 0.02, 3, *activations)


@pytest.mark.parametrize("weights", [(-128, 127), (-127, 127), (-8, 7), (-32767, 32767)])
@pytest.mark.parametrize("activations", [(0, 255), (0, 127), (-128, 127), (0, 15), (0, 65535)])
def test_any_range(weights: tuple[int, int], activations: tuple[int, int]) -> None:
    model = Fake(weights, activations)
    imported = import_model(model, ImportOptions(example_inputs=(torch.randn(3, 1, 8, 8) * 2,)))
    assert_same(imported)
    value = imported.model.graph.initializers["conv.weight_quantized"]
    assert value.const_value is not None
    scales = model.get_buffer("scales").reshape(-1, 1, 1, 1)
    wanted = torch.round(model.conv.weight.detach() / scales).clamp(*weights)
    np.testing.assert_array_equal(value.const_value.numpy(), wanted.numpy())
    assert value.dtype == (ir.DataType.INT8 if weights[1] < 128 else ir.DataType.INT16)
    whole = activations in ((0, 255), (-128, 127), (0, 65535))
    assert queries.count_operators(imported.model).get("Clip", 0) == (0 if whole else 2)


def test_a_range_that_no_integer_has() -> None:
    with pytest.raises(ImportFailed, match="no integers of ONNX hold the range from -300 to 70000"):
        import_model(
            Fake((-128, 127), (-300, 70000)),
            ImportOptions(example_inputs=(torch.ones(2, 1, 8, 8),)),
        )


def test_a_model_with_observers_says_what_to_do() -> None:
    from torch.ao.quantization import FakeQuantize

    module = nn.Sequential(FakeQuantize(), nn.Linear(4, 2))
    options = ImportOptions(example_inputs=(torch.ones(2, 4),))
    with pytest.raises(
        ImportFailed, match=r"still observes what it rounds \(0\).*; convert it first"
    ):
        import_model(module, options)


# Targets ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("onnxruntime:cuda", "no integer convolutions or products for CUDA"),
        ("tensorrt-rtx:sm89", "it does not run it; choose one of fp32"),
    ],
)
def test_where_it_does_not_run(program: Program, tmp_path: Path, target: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        infopt.optimize(program, tmp_path / "engine", target=target, precision="int8-trained")


def test_a_model_that_was_not_trained_for_it_is_told_so(tmp_path: Path) -> None:
    example: Any = (torch.randn(2, 4),)
    engine = infopt.optimize(
        nn.Linear(4, 2),
        tmp_path / "engine",
        precision="int8-trained",
        example_inputs=example,
        measure=False,
    )
    (note,) = engine.manifest.evidence["outcome"]["notes"]
    assert "nothing" in note
