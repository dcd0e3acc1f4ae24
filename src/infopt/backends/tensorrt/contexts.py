"""Execution contexts of an engine: how they are made, and how they are told of inputs."""

from __future__ import annotations

from typing import Any

from infopt.backends.tensorrt.cuda import Buffer
from infopt.backends.tensorrt.memory import Results
from infopt.backends.tensorrt.profiles import Sizes
from infopt.backends.tensorrt.settings import Settings
from infopt.errors import CompileError, DataError


class Contexts:
    """Makes execution contexts that share memory for their intermediate results.

    A captured graph holds the addresses that its context had, and TensorRT advises a context of
    its own for each; so that this costs no memory, they take turns in one piece of it.
    """

    def __init__(self, trt: Any, engine: Any, settings: Settings) -> None:
        self._trt = trt
        self._engine = engine
        self._settings = settings
        self._nbytes = engine.device_memory_size_v2
        self.captures_itself = hasattr(trt, "CudaGraphStrategy")
        """Whether TensorRT captures graphs itself: TensorRT for RTX does, since it exchanges
        kernels as it compiles better ones."""

    def make(self, scratch: Buffer, *, capturing: bool = False) -> Any:
        """A context.

        Args:
            scratch: Memory for intermediate results, shared by contexts that never run at a time.
            capturing: Whether TensorRT for RTX is to capture what it does.

        Raises:
            CompileError: The GPU has too little memory.
        """
        address = scratch.reserve(self._nbytes)
        strategy = self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        how = self._config(strategy, capturing=capturing) if self.captures_itself else strategy
        context = self._engine.create_execution_context(how)
        if context is None:
            raise CompileError("there is not enough memory on the GPU to run the engine")
        context.set_device_memory(address, self._nbytes)
        # The engine was built to tell of its layers; telling profilers in each call takes time.
        context.nvtx_verbosity = self._trt.ProfilingVerbosity.NONE
        return context

    def _config(self, strategy: Any, *, capturing: bool) -> Any:
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategy)
        if capturing:
            config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        if self._settings.specialization is not None:
            kinds = self._trt.DynamicShapesKernelSpecializationStrategy
            config.dynamic_shapes_kernel_specialization_strategy = getattr(
                kinds, self._settings.specialization.upper()
            )
        return config

    def allocator(self) -> Any:
        """Gives TensorRT memory for an output whose size is known only at the end."""

        class Allocator(self._trt.IOutputAllocator):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.shape: Sizes = ()
                self.address = 0
                self._results: Results | None = None

            def prepare(self, results: Results) -> None:
                self._results = results

            def reallocate_output(self, tensor: str, memory: int, size: int, alignment: int) -> int:
                assert self._results is not None
                self.address = self._results.grow(tensor, size)
                return self.address

            def reallocate_output_async(
                self, tensor: str, memory: int, size: int, alignment: int, stream: int
            ) -> int:
                return self.reallocate_output(tensor, memory, size, alignment)

            def notify_shape(self, tensor: str, shape: Any) -> None:
                self.shape = tuple(shape)

        return Allocator()


def shape_it(context: Any, name: str, shape: Sizes) -> None:
    """Tell a context of the shape of an input.

    Raises:
        DataError: The engine cannot have that shape.
    """
    if not context.set_input_shape(name, shape):
        raise DataError(f"input {name!r} cannot have shape {list(shape)}")


def read_from(context: Any, name: str, address: int) -> None:
    """Tell a context where an input lies.

    Raises:
        CompileError: It does not read from there.
    """
    if not context.set_tensor_address(name, address):
        raise CompileError(f"TensorRT does not read input {name!r} at {address:#x}")


def choose(context: Any, profile: int, stream: int) -> None:
    """Let a context run for the shapes of a profile; it forgets those that it had.

    Raises:
        CompileError: It does not.
    """
    if not context.set_optimization_profile_async(profile, stream):
        raise CompileError(f"TensorRT does not change to profile {profile} of the engine")


def infer(context: Any) -> None:
    """Let a context find the shapes of the outputs.

    Raises:
        CompileError: It does not know enough to.
        DataError: The model cannot have such inputs.
    """
    try:
        missing = context.infer_shapes()
    except RuntimeError as error:
        raise DataError(f"the model cannot have inputs of these shapes: {error}") from None
    if missing:
        raise CompileError(f"TensorRT does not know the shapes of {', '.join(missing)}")


def execute(context: Any, stream: int) -> None:
    """Give a call to a stream.

    Raises:
        CompileError: TensorRT does not.
    """
    if not context.execute_async_v3(stream):
        raise CompileError("TensorRT could not run the engine; see whether memory is left")
