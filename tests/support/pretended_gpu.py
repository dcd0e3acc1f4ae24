"""A GPU that is none: what the driver, TensorRT and torch answer, on this process's own memory.

Every call that reaches the driver or an execution context is written down, in order, so that tests
can say exactly what a session does. Names and arguments are those of the real libraries; a test
compares the names with TensorRT's where that is installed.
"""

from __future__ import annotations

import ctypes
import enum
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

OUT_OF_MEMORY = 2
CAPTURE_FAILED = 901


class Library:
    """``libcuda`` on a machine with one GPU."""

    def __init__(self, devices: int = 1, most: int = 1 << 20) -> None:
        self.devices = devices
        self.most = most
        """Bytes of the largest allocation."""
        self.log: list[str] = []
        self.memory: dict[int, Any] = {}
        self.streams: set[int] = set()
        self.events: set[int] = set()
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.captured: dict[int, list[Callable[[], None]]] = {}
        """Of streams under capture."""
        self.fail_capture = False
        self._next = 100

    def submit(self, stream: int, what: str, action: Callable[[], None]) -> None:
        """Do something in a stream, or write it down."""
        self.log.append(f"{what} in {stream}")
        if stream in self.captured:
            self.captured[stream].append(action)
        else:
            action()

    def took(self) -> list[str]:
        """What was done since the last time that somebody asked."""
        log, self.log = self.log, []
        return log

    def _number(self) -> int:
        self._next += 1
        return self._next

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 0 if self.devices else 100

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.devices
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 12, 76: 0}[which]
        return 0

    def cuDeviceGetName(self, buffer: Any, size: int, device: Any) -> int:  # noqa: N802
        buffer.value = b"NVIDIA L4"
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13_010
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:  # noqa: N802
        free._obj.value, total._obj.value = 3 << 30, 4 << 30
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:  # noqa: N802
        self.log.append("retain")
        context._obj.value = 7
        return 0

    def cuCtxSetCurrent(self, context: Any) -> int:  # noqa: N802
        return 0 if context.value == 7 else 201

    def cuStreamCreate(self, stream: Any, flags: int) -> int:  # noqa: N802
        assert flags == 1  # does not wait for the default stream
        stream._obj.value = self._number()
        self.streams.add(stream._obj.value)
        return 0

    def cuStreamDestroy_v2(self, stream: Any) -> int:  # noqa: N802
        self.streams.remove(stream.value)
        return 0

    def cuStreamSynchronize(self, stream: Any) -> int:  # noqa: N802
        assert not self.captured
        self.log.append(f"synchronize {stream.value}")
        return 0

    def cuEventCreate(self, event: Any, flags: int) -> int:  # noqa: N802
        assert flags == 2  # does not time
        event._obj.value = self._number()
        self.events.add(event._obj.value)
        return 0

    def cuEventRecord(self, event: Any, stream: Any) -> int:  # noqa: N802
        assert event.value in self.events
        self.log.append(f"record {stream.value or 0}")
        return 0

    def cuStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> int:  # noqa: N802
        assert event.value in self.events
        assert flags == 0
        self.log.append(f"{stream.value or 0} waits")
        return 0

    def cuEventSynchronize(self, event: Any) -> int:  # noqa: N802
        return 0 if event.value in self.events else 400

    def cuEventDestroy_v2(self, event: Any) -> int:  # noqa: N802
        self.events.remove(event.value)
        return 0

    def cuStreamBeginCapture_v2(self, stream: Any, mode: int) -> int:  # noqa: N802
        assert mode == 1  # other threads may go on
        self.log.append(f"capture {stream.value}")
        self.captured[stream.value] = []
        return 0

    def cuStreamEndCapture(self, stream: Any, graph: Any) -> int:  # noqa: N802
        actions = self.captured.pop(stream.value)
        self.log.append(f"captured {stream.value}")
        if self.fail_capture:
            graph._obj.value = 0
            return CAPTURE_FAILED
        graph._obj.value = self._number()
        self.graphs[graph._obj.value] = actions
        return 0

    def cuGraphInstantiateWithFlags(self, ready: Any, graph: Any, flags: Any) -> int:  # noqa: N802
        assert flags.value == 0
        ready._obj.value = self._number()
        self.graphs[ready._obj.value] = self.graphs[graph.value]
        return 0

    def cuGraphDestroy(self, graph: Any) -> int:  # noqa: N802
        del self.graphs[graph.value]
        return 0

    cuGraphExecDestroy = cuGraphDestroy  # noqa: N815

    def cuGraphLaunch(self, graph: Any, stream: Any) -> int:  # noqa: N802
        self.log.append(f"launch in {stream.value}")
        for action in self.graphs[graph.value]:
            action()
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:  # noqa: N802
        if size.value > self.most:
            return OUT_OF_MEMORY
        block = ctypes.create_string_buffer(size.value + 256)
        address._obj.value = (ctypes.addressof(block) + 255) // 256 * 256
        self.memory[address._obj.value] = block
        return 0

    def cuMemFree_v2(self, address: Any) -> int:  # noqa: N802
        del self.memory[address.value]
        return 0

    def cuMemsetD8Async(self, address: Any, byte: Any, size: Any, stream: Any) -> int:  # noqa: N802
        self.submit(stream.value, "clear", lambda: _fill(address.value, byte.value, size.value))
        return 0

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:  # noqa: N802
        return self._move("to device", to, source, size, stream)

    def cuMemcpyDtoHAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:  # noqa: N802
        return self._move("to host", to, source, size, stream)

    def cuMemcpyDtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:  # noqa: N802
        return self._move("copy", to, source, size, stream)

    def _move(self, what: str, to: Any, source: Any, size: Any, stream: Any) -> int:
        def move() -> None:
            ctypes.memmove(to.value, source.value, size.value)

        self.submit(stream.value or 0, what, move)
        return 0


def _fill(address: int, byte: int, size: int) -> None:
    ctypes.memset(address, byte, size)


Kind = enum.Enum("Kind", ["INPUT", "OUTPUT"])
Place = enum.Enum("Place", ["DEVICE", "HOST"])
Type = enum.Enum("Type", ["FLOAT", "HALF", "BF16", "INT64", "FP4"])
Strategy = enum.Enum("Strategy", ["STATIC", "ON_PROFILE_CHANGE", "USER_MANAGED"])
Verbosity = enum.Enum("Verbosity", ["LAYER_NAMES_ONLY", "DETAILED", "NONE"])
GraphStrategy = enum.Enum("GraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])
Specialization = enum.Enum("Specialization", ["LAZY", "EAGER", "NONE"])
Format = enum.Enum("Format", ["ONELINE", "JSON"])

_DTYPES = {"FLOAT": np.float32, "HALF": np.float16, "BF16": np.int16, "INT64": np.int64}


class Tensor:
    """An input or output of the pretended engine."""

    def __init__(
        self,
        kind: Kind,
        shape: tuple[int, ...],
        dtype: str = "FLOAT",
        place: Place = Place.DEVICE,
        profiles: tuple[tuple[tuple[int, ...], ...], ...] = (),
    ) -> None:
        self.kind, self.shape, self.dtype = kind, shape, dtype
        self.place, self.profiles = place, profiles


class Model:
    """What the pretended engine computes: outputs ``y = 2 x``, ``z`` the positive numbers of x."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors
        self.profiles = max(len(t.profiles) for t in tensors.values()) or 1
        self.scratch = 512
        self.streamable = 0
        self.contexts = 0
        self.most_contexts = 99
        self.capturable = True
        self.refuses = ""
        """The name of a method that returns False."""
        self.told = '{"Layers": []}'
        self.budgets: list[int] = []


class Context:
    """An execution context."""

    def __init__(self, library: Library, model: Model, strategy: Any, graphs: Any) -> None:
        self._library, self._model = library, model
        self.strategy, self.graphs = strategy, graphs
        self.nvtx_verbosity: Any = Verbosity.DETAILED
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._allocators: dict[str, Any] = {}
        self._memory = 0

    def _say(self, what: str) -> bool:
        self._library.log.append(what)
        return what.split()[0] != self._model.refuses

    def set_device_memory(self, memory: int, size: int) -> None:
        assert self.strategy is Strategy.USER_MANAGED
        assert memory % 256 == 0
        assert size == self._model.scratch
        self._memory = memory

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert 0 <= profile_index < self._model.profiles
        self._shapes.clear()
        return self._say(f"profile {profile_index} in {stream_handle}")

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert isinstance(shape, tuple)
        self._shapes[name] = shape
        return self._say(f"shape {name} {list(shape)}")

    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert memory
        self._addresses[name] = memory
        return self._model.refuses != "address"

    def set_output_allocator(self, name: str, output_allocator: Any) -> bool:
        self._allocators[name] = output_allocator
        return True

    def infer_shapes(self) -> list[str]:
        self._library.log.append("infer")
        if self._model.refuses == "infer":
            raise RuntimeError("3 cannot become 4")
        given = [n for n, t in self._model.tensors.items() if t.kind is Kind.INPUT]
        return [name for name in given if name not in self._shapes]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name == "z":
            return (-1,)
        if self._model.tensors[name].place is Place.HOST:
            return self._model.tensors[name].shape
        return self._shapes["x"]

    def is_stream_capturable(self, stream: int) -> bool:
        return self._model.capturable

    def execute_async_v3(self, stream_handle: int) -> bool:
        assert self._memory
        assert stream_handle not in (0, 1, 2)
        if self._model.refuses == "execute":
            return False
        shape, addresses = self._shapes["x"], dict(self._addresses)
        for name, allocator in self._allocators.items():
            self._late(name, allocator, shape)
        self._library.submit(stream_handle, "execute", lambda: self._compute(shape, addresses))
        return True

    def _compute(self, shape: tuple[int, ...], addresses: Mapping[str, int]) -> None:
        tensors = self._model.tensors
        x = _view(addresses["x"], shape, tensors["x"].dtype)
        _view(addresses["y"], shape, tensors["x"].dtype)[...] = 2 * x
        if "n" in tensors:
            _view(addresses["n"], (1,), "INT64")[...] = x.size

    def _late(self, name: str, allocator: Any, shape: tuple[int, ...]) -> None:
        x = _view(self._addresses["x"], shape, self._model.tensors["x"].dtype)
        found = x[x > 0]
        address = allocator.reallocate_output_async(name, 0, x.nbytes, 256, 5)
        _view(address, found.shape, self._model.tensors["x"].dtype)[...] = found
        allocator.notify_shape(name, found.shape)


def _view(address: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    kind: np.dtype[Any] = np.dtype(_DTYPES[dtype])
    size = int(np.prod(shape)) * kind.itemsize
    if not size:
        return np.empty(shape, kind)
    memory = memoryview((ctypes.c_char * size).from_address(address))
    return np.frombuffer(memory, kind).reshape(shape)


class Config:
    """A runtime configuration of TensorRT for RTX."""

    def __init__(self) -> None:
        self.strategy: Any = Strategy.STATIC
        self.cuda_graph_strategy: Any = GraphStrategy.DISABLED
        self.dynamic_shapes_kernel_specialization_strategy: Any = Specialization.LAZY

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None:
        self.strategy = strategy


class Inspector:
    """Says what the model says of itself."""

    execution_context: Any = None

    def __init__(self, library: Library, model: Model) -> None:
        self._library, self._model = library, model

    def get_engine_information(self, format: Any) -> str:
        assert format is Format.JSON
        assert self.execution_context is not None
        self._library.log.append("inspect")
        return self._model.told


class Engine:
    """A deserialized engine."""

    def __init__(self, library: Library, model: Model) -> None:
        self._library, self._model = library, model
        self._names = list(model.tensors)
        self.num_io_tensors = len(self._names)
        self.num_optimization_profiles = model.profiles
        self.device_memory_size_v2 = model.scratch
        self.streamable_weights_size = model.streamable

    @property
    def weight_streaming_budget_v2(self) -> int:
        return self._model.budgets[-1]

    @weight_streaming_budget_v2.setter
    def weight_streaming_budget_v2(self, budget: int) -> None:
        assert not self._model.contexts  # TensorRT refuses it once there are any
        self._model.budgets.append(budget)

    def get_weight_streaming_automatic_budget(self) -> int:
        return 77

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self._model.tensors[name].kind

    def get_tensor_dtype(self, name: str) -> Any:
        return Type[self._model.tensors[name].dtype]

    def get_tensor_location(self, name: str) -> Any:
        return self._model.tensors[name].place

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._model.tensors[name].shape

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        return list(self._model.tensors[name].profiles[profile_index])

    def create_runtime_config(self) -> Config:
        return Config()

    def create_execution_context(self, how: Any) -> Context | None:
        self._model.contexts += 1
        if self._model.contexts > self._model.most_contexts:
            return None
        if isinstance(how, Config):
            self._library.log.append(
                f"context {how.cuda_graph_strategy.name} "
                f"{how.dynamic_shapes_kernel_specialization_strategy.name}"
            )
            return Context(self._library, self._model, how.strategy, how.cuda_graph_strategy)
        self._library.log.append("context")
        return Context(self._library, self._model, how, None)

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self._library, self._model)


class Logger:
    ERROR = 1

    def __init__(self, least: int) -> None: ...


class IOutputAllocator:
    def __init__(self) -> None:
        self.made = True


class Refitter:
    def __init__(self, engine: Engine, logger: Logger) -> None: ...

    def refit_cuda_engine(self) -> bool:
        return True


class OnnxParserRefitter:
    def __init__(self, refitter: Refitter, logger: Logger) -> None: ...

    def refit_from_file(self, model: str) -> bool:
        return model.endswith(".onnx")


def tensorrt(library: Library, model: Model, *, rtx: bool = False) -> Any:
    """The module: TensorRT, or TensorRT for RTX with what only that has."""

    class Runtime:
        def __init__(self, logger: Logger) -> None: ...

        def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
            return Engine(library, model) if plan == b"plan" else None

    module: Any = types.SimpleNamespace(
        Logger=Logger,
        Runtime=Runtime,
        Refitter=Refitter,
        OnnxParserRefitter=OnnxParserRefitter,
        IOutputAllocator=IOutputAllocator,
        TensorIOMode=Kind,
        TensorLocation=Place,
        ExecutionContextAllocationStrategy=Strategy,
        ProfilingVerbosity=Verbosity,
        LayerInformationFormat=Format,
    )
    if rtx:
        module.CudaGraphStrategy = GraphStrategy
        module.DynamicShapesKernelSpecializationStrategy = Specialization
    return module


class TorchTensor:
    """As much of a torch tensor as a session uses; it holds an array."""

    def __init__(self, array: np.ndarray, device: str = "cuda", index: int = 0) -> None:
        self.array = array
        self.is_cuda = device == "cuda"
        self.device = types.SimpleNamespace(type=device, index=index)
        self.moved = False

    def __repr__(self) -> str:
        return f"tensor({self.array})"

    @property
    def dtype(self) -> str:
        return f"torch.{self.array.dtype}"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def numel(self) -> int:
        return self.array.size

    def element_size(self) -> int:
        return self.array.itemsize

    def data_ptr(self) -> int:
        return self.array.ctypes.data if self.array.size else 0

    def detach(self) -> TorchTensor:
        return self

    def contiguous(self) -> TorchTensor:
        return self if self.array.flags.c_contiguous else TorchTensor(self.array.copy())

    def to(self, device: str) -> TorchTensor:
        assert device == "cuda:0"
        return self if self.is_cuda else TorchTensor(aligned(self.array))

    def cpu(self) -> TorchTensor:
        return TorchTensor(self.array, "cpu")

    def numpy(self) -> np.ndarray:
        assert not self.is_cuda
        return self.array

    def view(self, what: Any) -> TorchTensor:
        if isinstance(what, str):
            return TorchTensor(self.array.view(what.removeprefix("torch.")))
        return TorchTensor(self.array.reshape(what))

    def __getitem__(self, which: slice) -> TorchTensor:
        return TorchTensor(self.array[which])


def aligned(array: np.ndarray, off: int = 0) -> np.ndarray:
    """A copy at an address that is a multiple of 256, or ``off`` bytes behind one."""
    room = np.empty(array.nbytes + 512, np.uint8)
    start = -room.ctypes.data % 256 + off
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class Torch(types.SimpleNamespace):
    """The module; its current stream is what the test says."""

    current: int

    def __init__(self) -> None:
        super().__init__(
            Tensor=TorchTensor,
            from_numpy=lambda array: TorchTensor(array, "cpu"),
            empty=self._empty,
            device=lambda kind, index: (kind, index),
            cuda=types.SimpleNamespace(
                current_stream=lambda device: types.SimpleNamespace(cuda_stream=self.current)
            ),
            **{n: f"torch.{n}" for n in ("float32", "float16", "int64", "uint8")},
            bfloat16="torch.bfloat16",
            float8_e4m3fn="torch.float8_e4m3fn",
        )
        self.current = 5
        self.made: list[TorchTensor] = []

    def _empty(self, size: int, *, dtype: str, device: Any) -> TorchTensor:
        assert (dtype, device) == ("torch.uint8", ("cuda", 0))
        self.made.append(TorchTensor(aligned(np.zeros(size, np.uint8))))
        return self.made[-1]
