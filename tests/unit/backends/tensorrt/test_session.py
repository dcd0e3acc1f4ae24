"""Sessions on a pretended GPU: what they return, and exactly what they ask for, in order."""

from __future__ import annotations

import enum
import gc
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from infopt.backends.tensorrt.cuda import Driver
from infopt.backends.tensorrt.session import TensorRtSession
from infopt.backends.tensorrt.settings import Settings
from infopt.errors import CompileError, DataError, UsageError
from tests.support import pretended_gpu as gpu
from tests.support.pretended_gpu import Kind, Library, Model, Place, Tensor, TorchTensor

SMALL = ((1, 4), (2, 4), (8, 4))
LARGE = ((8, 4), (32, 4), (64, 4))


def _model(*, fixed: bool = False, **more: Tensor) -> Model:
    shape, profiles = ((2, 4), ()) if fixed else ((-1, 4), (SMALL,))
    return Model(
        {"x": Tensor(Kind.INPUT, shape, profiles=profiles), "y": Tensor(Kind.OUTPUT, shape)} | more
    )


def _x(n: int = 2) -> np.ndarray:
    return gpu.aligned(np.arange(4 * n, dtype=np.float32).reshape(n, 4) - 3)


class Bench:
    """A session and all that it stands on."""

    def __init__(self, model: Model, *, rtx: bool = False, **settings: Any) -> None:
        self.library = Library()
        self.model = model
        self.trt = gpu.tensorrt(self.library, model, rtx=rtx)
        self.session = TensorRtSession(
            self.trt, Driver(self.library), b"plan", settings=Settings(**settings)
        )
        self.own = min(self.library.streams)
        self.library.took()

    def took(self) -> list[str]:
        """What the last call did, the session's own stream called S."""
        return [line.replace(str(self.own), "S") for line in self.library.took()]


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> gpu.Torch:
    module = gpu.Torch()
    monkeypatch.setitem(sys.modules, "torch", module)
    return module


def test_arrays_go_there_and_come_back() -> None:
    bench = Bench(_model())
    outputs = bench.session(x=_x())
    np.testing.assert_array_equal(outputs["y"], 2 * _x())
    assert bench.took() == [
        "to device in S",
        "shape x [2, 4]",
        "infer",
        "execute in S",
        "to host in S",
        "record S",
        "synchronize S",
    ]
    bench.session({"x": _x()})
    assert bench.took() == [
        "to device in S",
        "execute in S",
        "to host in S",
        "record S",
        "synchronize S",
    ]
    np.testing.assert_array_equal(bench.session(x=_x(5))["y"], 2 * _x(5))
    assert bench.took()[:3] == ["to device in S", "shape x [5, 4]", "infer"]


def test_what_it_takes_and_returns() -> None:
    session = Bench(_model()).session
    assert [(s.name, s.dtype, s.shape) for s in session.inputs] == [("x", "float", (None, 4))]
    assert [(s.name, s.dtype, s.shape) for s in session.outputs] == [("y", "float", (None, 4))]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "input 'x' is missing; the inputs are x"),
        ({"x": _x(), "xx": _x()}, "there is no input 'xx'; did you mean 'x'"),
        ({"x": _x().astype(np.float64)}, r"is float64, the engine takes float32; .*astype"),
        ({"x": _x(9)}, r"has shape \[9, 4\]; the engine was built for \[1, 4\] to \[8, 4\]"),
        ({"x": _x()[0]}, r"has shape \[4\]; the engine was built"),
    ],
)
def test_what_does_not_fit_is_named(inputs: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Bench(_model()).session(inputs)


def test_tensors_are_read_where_they_lie_and_nothing_waits(torch: gpu.Torch) -> None:
    bench = Bench(_model())
    x = TorchTensor(_x())
    outputs = bench.session(x=x)
    assert isinstance(outputs["y"], TorchTensor)
    np.testing.assert_array_equal(outputs["y"].array, 2 * _x())
    assert np.shares_memory(outputs["y"].array, torch.made[0].array)
    assert bench.took() == ["shape x [2, 4]", "infer", "execute in 5", "record 5"]


def test_a_call_on_the_default_stream_is_put_between_what_was_and_will_be(torch: gpu.Torch) -> None:
    bench = Bench(_model())
    torch.current = 0
    bench.session(x=TorchTensor(_x()))
    bench.took()
    bench.session(x=TorchTensor(_x()))
    assert bench.took() == ["record 0", "S waits", "execute in S", "record S", "0 waits"]


def test_another_stream_waits_for_the_memory_of_the_context(torch: gpu.Torch) -> None:
    bench = Bench(_model())
    for stream, waits in ((5, []), (5, []), (6, ["6 waits"]), (6, [])):
        torch.current = stream
        bench.session(x=TorchTensor(_x()))
        took = [line for line in bench.took() if line.endswith("waits")]
        assert took == waits


def test_with_more_contexts_streams_do_not_wait(torch: gpu.Torch) -> None:
    bench = Bench(_model(), contexts=2)
    for stream in (5, 6, 5, 6, 6, 5):
        torch.current = stream
        bench.session(x=TorchTensor(_x()))
    assert not [line for line in bench.took() if line.endswith("waits")]
    torch.current = 8
    bench.session(x=TorchTensor(_x()))
    assert "8 waits" in bench.took()


def test_tensors_that_a_kernel_cannot_read_are_copied(torch: gpu.Torch) -> None:
    bench = Bench(_model())
    for x in (gpu.aligned(_x(), off=4), np.asfortranarray(_x())):
        outputs = bench.session(x=TorchTensor(x))
        np.testing.assert_array_equal(outputs["y"].array, 2 * _x())
    assert "copy in 5" in bench.took()


def test_tensors_of_the_processor_come_back_as_such(torch: gpu.Torch) -> None:
    outputs = Bench(_model()).session(x=TorchTensor(_x(), "cpu"))
    assert not outputs["y"].is_cuda
    np.testing.assert_array_equal(outputs["y"].array, 2 * _x())


def test_arrays_beside_tensors_go_to_the_gpu(torch: gpu.Torch) -> None:
    k = Tensor(Kind.INPUT, (1,), "INT64")
    outputs = Bench(_model(k=k)).session(x=TorchTensor(_x()), k=np.array([3]))
    assert outputs["y"].is_cuda


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (TorchTensor(_x().astype(np.float16)), r"is torch.float16, .* with .to\(torch.float32\)"),
        (TorchTensor(_x(), index=1), "the engine runs on cuda:0; move it"),
        (TorchTensor(_x(9)), "the engine was built for"),
    ],
)
def test_tensors_that_do_not_fit(torch: gpu.Torch, tensor: TorchTensor, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Bench(_model()).session(x=tensor)


@pytest.mark.parametrize("on_gpu", [False, True])
def test_sizes_that_depend_on_the_numbers(torch: gpu.Torch, on_gpu: bool) -> None:
    bench = Bench(_model(z=Tensor(Kind.OUTPUT, (-1,))))
    for x in (_x(), -np.abs(_x())):
        outputs = bench.session(x=TorchTensor(gpu.aligned(x)) if on_gpu else x)
        found = outputs["z"].array if on_gpu else outputs["z"]
        np.testing.assert_array_equal(found, x[x > 0])


@pytest.mark.parametrize("on_gpu", [False, True])
def test_sizes_lie_in_the_memory_of_the_processor(torch: gpu.Torch, on_gpu: bool) -> None:
    bench = Bench(
        _model(
            s=Tensor(Kind.INPUT, (1,), "INT64", Place.HOST),
            n=Tensor(Kind.OUTPUT, (1,), "INT64", Place.HOST),
        )
    )
    s = np.array([2])
    if on_gpu:
        outputs = bench.session(x=TorchTensor(_x()), s=TorchTensor(s))
        assert bench.took()[-2:] == ["synchronize 5", "record 5"]
        assert outputs["n"].array.tolist() == [8]
    else:
        outputs = bench.session(x=_x(), s=s)
        assert [line for line in bench.took() if line == "to device in S"] == ["to device in S"]
        assert outputs["n"].tolist() == [8]
    # Their numbers are part of the shapes: the same shape does not mean the same outputs.
    bench.session(x=_x(), s=s)
    assert "infer" in bench.took()


def test_nothing_in_nothing_out(torch: gpu.Torch) -> None:
    model = _model()
    model.tensors["x"].profiles = (((0, 4), (2, 4), (8, 4)),)
    bench = Bench(model)
    empty = np.empty((0, 4), np.float32)
    assert bench.session(x=empty)["y"].shape == (0, 4)
    assert bench.session(x=TorchTensor(empty))["y"].shape == (0, 4)


def test_the_nearest_profile_is_taken() -> None:
    model = _model()
    model.tensors["x"].profiles = (SMALL, LARGE)
    model.profiles = 2
    bench = Bench(model)
    chosen = {}
    for n in (1, 8, 40, 2):
        bench.session(x=_x(n))
        chosen[n] = [line for line in bench.took() if line.startswith("profile")]
    assert chosen == {1: [], 8: [], 40: ["profile 1 in S"], 2: ["profile 0 in S"]}
    with pytest.raises(DataError, match=r"\[1, 4\] to \[8, 4\] or \[8, 4\] to \[64, 4\]"):
        bench.session(x=_x(65))


def test_shapes_that_no_profile_holds_together() -> None:
    x = Tensor(Kind.INPUT, (-1, 4), profiles=(SMALL, LARGE))
    w = Tensor(Kind.INPUT, (-1, 4), profiles=(SMALL, LARGE))
    bench = Bench(Model({"x": x, "w": w, "y": Tensor(Kind.OUTPUT, (-1, 4))}))
    with pytest.raises(DataError, match=r"no profile .* together: x \[1, 4\], w \[64, 4\]"):
        bench.session(x=_x(1), w=_x(64))


CAPTURE = [
    "context",
    "clear in S",
    "shape x [2, 4]",
    "infer",
    "execute in S",
    "synchronize S",
    "capture S",
    "execute in S",
    "captured S",
]


def test_where_shapes_are_fixed_a_call_is_captured_once() -> None:
    bench = Bench(_model(fixed=True))
    assert bench.session.facts() == {"cuda_graphs": "one: every shape is fixed"}
    np.testing.assert_array_equal(bench.session(x=_x())["y"], 2 * _x())
    again = ["to device in S", "launch in S", "to host in S", "record S", "synchronize S"]
    assert bench.took() == CAPTURE + again
    np.testing.assert_array_equal(bench.session(x=-_x())["y"], -2 * _x())
    assert bench.took() == again


def test_captured_calls_and_tensors(torch: gpu.Torch) -> None:
    bench = Bench(_model(fixed=True))
    first = bench.session(x=TorchTensor(_x()))["y"]
    second = bench.session(x=TorchTensor(gpu.aligned(-_x())))["y"]
    assert bench.took()[-4:] == ["copy in 5", "launch in 5", "copy in 5", "record 5"]
    np.testing.assert_array_equal(first.array, 2 * _x())  # nobody writes over it
    np.testing.assert_array_equal(second.array, -2 * _x())


def test_a_graph_for_each_shape_but_not_for_ever() -> None:
    bench = Bench(_model(), cuda_graphs="on", graph_cache=2)
    kept = []
    for n in (1, 2, 1, 3, 1, 2):
        np.testing.assert_array_equal(bench.session(x=_x(n))["y"], 2 * _x(n))
        kept.append("capture S" in bench.took())
    assert kept == [True, True, False, True, False, True]
    assert len(bench.library.graphs) == 2


def test_a_graph_belongs_to_a_profile() -> None:
    model = _model()
    model.tensors["x"].profiles = (SMALL, LARGE)
    model.profiles = 2
    bench = Bench(model, cuda_graphs="on")
    np.testing.assert_array_equal(bench.session(x=_x(40))["y"], 2 * _x(40))
    assert "profile 1 in S" in bench.took()


def _uncapturable(model: Model, library: Library) -> None:
    model.capturable = False


def _failing(model: Model, library: Library) -> None:
    library.fail_capture = True


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_uncapturable, "TensorRT says that this engine cannot be captured"),
        (
            _failing,
            r"capturing failed: the NVIDIA driver refuses cuStreamEndCapture \(status 901\)",
        ),
    ],
)
def test_what_cannot_be_captured_runs_all_the_same_and_says_why(
    spoil: Callable[[Model, Library], None], reason: str
) -> None:
    bench = Bench(_model(fixed=True))
    spoil(bench.model, bench.library)
    np.testing.assert_array_equal(bench.session(x=_x())["y"], 2 * _x())
    assert bench.session.facts()["cuda_graphs"].startswith(
        f"none: {reason.replace(chr(92), '')[:40]}"
    )
    bench.took()
    bench.session(x=_x())
    assert "clear in S" not in bench.took()  # it is not tried again
    insisting = Bench(_model(fixed=True), cuda_graphs="on")
    spoil(insisting.model, insisting.library)
    with pytest.raises(CompileError, match=reason):
        insisting.session(x=_x())
    assert not insisting.library.graphs


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        (_model(), {}, "none: shapes differ from call to call; cuda_graphs=on captures each"),
        (_model(fixed=True), {"cuda_graphs": "off"}, "none: switched off"),
        (
            _model(fixed=True, n=Tensor(Kind.OUTPUT, (1,), "INT64", Place.HOST)),
            {},
            "none: 'n' lies in the processor's memory",
        ),
    ],
)
def test_why_nothing_is_captured(model: Model, settings: dict[str, Any], reason: str) -> None:
    bench = Bench(model, **settings)
    bench.session(x=_x())
    assert bench.session.facts()["cuda_graphs"].startswith(reason)
    assert "capture S" not in bench.took()


def test_sizes_that_depend_on_the_numbers_are_not_captured() -> None:
    bench = Bench(_model(fixed=True, z=Tensor(Kind.OUTPUT, (-1,))))
    assert bench.session(x=_x())["z"].size == 4
    assert bench.session.facts()["cuda_graphs"] == "none: the size of 'z' depends on the numbers"


def test_tensorrt_for_rtx_captures_itself() -> None:
    bench = Bench(_model(fixed=True), rtx=True, specialization="eager")
    np.testing.assert_array_equal(bench.session(x=_x())["y"], 2 * _x())
    took = bench.took()
    assert took[0] == "context WHOLE_GRAPH_CAPTURE EAGER"
    assert "capture S" not in took
    library = Library()
    TensorRtSession(gpu.tensorrt(library, _model(), rtx=True), Driver(library), b"plan")
    assert library.took()[-1] == "context DISABLED LAZY"


@pytest.mark.parametrize(("given", "budget"), [(0, 0), (1 << 20, 1 << 20), ("auto", 77)])
def test_a_budget_for_weights_is_set_before_the_first_context(
    given: int | str, budget: int
) -> None:
    model = _model()
    model.streamable = 1 << 30
    Bench(model, weight_streaming_budget=given)
    assert model.budgets == [budget]


def test_a_budget_for_weights_that_do_not_stream() -> None:
    with pytest.raises(UsageError, match="build it with weight_streaming=true"):
        Bench(_model(), weight_streaming_budget=0)


def test_many_threads() -> None:
    bench = Bench(_model(), contexts=3)
    wrong: list[int] = []

    def work(n: int) -> None:
        found = [bench.session(x=_x(n))["y"] for _ in range(50)]
        wrong.extend(n for y in found if not np.array_equal(y, 2 * _x(n)))

    threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2, 3, 4, 5, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(bench.library.streams) <= 3


def test_all_is_given_back() -> None:
    bench = Bench(_model(), cuda_graphs="on", contexts=2)
    bench.session(x=_x())
    library = bench.library
    assert library.memory
    assert library.graphs
    bench.session = None  # type: ignore[assignment]
    gc.collect()
    assert not any((library.memory, library.graphs, library.streams, library.events))


@pytest.mark.parametrize(
    ("refuses", "error", "message"),
    [
        ("execute", CompileError, "could not run the engine"),
        ("shape", DataError, r"input 'x' cannot have shape \[2, 4\]"),
        ("infer", DataError, "cannot have inputs of these shapes: 3 cannot become 4"),
        ("address", CompileError, "does not read input 'x' at 0x"),
    ],
)
def test_a_refusal_of_tensorrt_is_told_and_the_next_call_runs(
    refuses: str, error: type[Exception], message: str
) -> None:
    bench = Bench(_model())
    bench.model.refuses = refuses
    with pytest.raises(error, match=message):
        bench.session(x=_x())
    bench.model.refuses = ""
    np.testing.assert_array_equal(bench.session(x=_x())["y"], 2 * _x())


def test_a_plan_that_tensorrt_refuses() -> None:
    library = Library()
    trt = gpu.tensorrt(library, _model())
    with pytest.raises(CompileError, match="refuses the plan on this machine"):
        TensorRtSession(trt, Driver(library), b"another plan")


def test_too_little_memory_shows_when_it_is_loaded() -> None:
    model = _model()
    model.scratch = 1 << 30
    with pytest.raises(CompileError, match=r"refuses cuMemAlloc_v2 \(status 2\)"):
        Bench(model)


def test_a_context_for_which_there_is_no_memory() -> None:
    model = _model()
    model.most_contexts = 0
    with pytest.raises(CompileError, match="not enough memory on the GPU"):
        Bench(model)


def test_weights_come_from_the_model_where_the_plan_has_none() -> None:
    library = Library()
    trt = gpu.tensorrt(library, _model())
    TensorRtSession(trt, Driver(library), b"plan", Path("model.onnx"))
    with pytest.raises(CompileError, match="cannot put the weights into the plan"):
        TensorRtSession(trt, Driver(library), b"plan", Path("model.txt"))


def test_types_that_no_array_can_hold() -> None:
    with pytest.raises(CompileError, match="has 'x' as FP4, which no array can hold"):
        Bench(Model({"x": Tensor(Kind.INPUT, (2,), "FP4"), "y": Tensor(Kind.OUTPUT, (2,))}))


def test_it_is_inspected_at_its_usual_shapes() -> None:
    bench = Bench(_model())
    assert bench.session.inspect() == '{"Layers": []}'
    assert bench.took() == ["shape x [2, 4]", "inspect"]
    np.testing.assert_array_equal(bench.session(x=_x())["y"], 2 * _x())
    assert "shape x [2, 4]" in bench.took()  # for the call it is told again


def test_bfloat16_goes_through_real_tensors() -> None:
    torch = pytest.importorskip("torch")
    from infopt.backends.tensorrt.memory import to_array, to_tensor, torch_type

    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float16, torch.int64, torch.bool):
        tensor = torch.tensor([[0, 1], [1, 0]]).to(dtype)
        array = to_array(tensor, torch)
        assert torch_type(array.dtype, torch) == dtype
        back = to_tensor(array, torch)
        assert back.dtype == dtype
        assert back.float().tolist() == [[0, 1], [1, 0]]
    assert to_array(torch.tensor([1.5]).bfloat16(), torch).dtype == ml_dtypes.bfloat16


@pytest.mark.parametrize(
    ("pretended", "real"),
    [
        (gpu.Context, "IExecutionContext"),
        (gpu.Engine, "ICudaEngine"),
        (gpu.Config, "IRuntimeConfig"),
        (gpu.Inspector, "EngineInspector"),
        (gpu.Refitter, "Refitter"),
        (gpu.OnnxParserRefitter, "OnnxParserRefitter"),
        (gpu.Strategy, "ExecutionContextAllocationStrategy"),
        (gpu.GraphStrategy, "CudaGraphStrategy"),
        (gpu.Specialization, "DynamicShapesKernelSpecializationStrategy"),
        (gpu.Verbosity, "ProfilingVerbosity"),
        (gpu.Kind, "TensorIOMode"),
        (gpu.Place, "TensorLocation"),
        (gpu.Type, "DataType"),
        (gpu.Format, "LayerInformationFormat"),
    ],
)
def test_what_is_pretended_is_there(pretended: type, real: str) -> None:
    """The stand-in has no method that TensorRT lacks, nor an argument of another name."""
    trt = pytest.importorskip("tensorrt_rtx_bindings")
    there = getattr(trt, real)
    if issubclass(pretended, enum.Enum):
        assert set(pretended.__members__) <= set(there.__members__)
        return
    for name, member in vars(pretended).items():
        if name.startswith("_"):
            continue
        assert hasattr(there, name), name
        if not callable(member) or name == "create_execution_context":
            continue
        arguments = member.__code__.co_varnames[1 : member.__code__.co_argcount]
        documented = getattr(there, name).__doc__
        assert all(f"{argument}:" in documented for argument in arguments), name
