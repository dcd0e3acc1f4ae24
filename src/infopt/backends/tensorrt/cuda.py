"""The NVIDIA driver, as far as an engine needs it: a GPU's kind, memory, copies, streams, graphs.

The driver's library is wherever a GPU is; so nothing else has to be installed to run an engine.
What is allocated here lies in the primary context, which PyTorch uses, too.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from infopt.errors import CompileError, UnavailableError

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING: does not wait for the default stream
_FLAGLESS = ctypes.c_ulonglong(0)
_NO_TIMING = 2  # CU_EVENT_DISABLE_TIMING: an event that only orders, and costs less
_THIS_THREAD = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: other threads may allocate meanwhile
_NO_GPU = "there is no NVIDIA GPU here, or its driver is not installed"


class Driver:
    """``libcuda`` and the first GPU that it shows (``CUDA_VISIBLE_DEVICES`` chooses)."""

    def __init__(self, library: Any) -> None:
        """Ask the library for its first GPU.

        Raises:
            UnavailableError: There is none.
        """
        self._library = library
        self._device = ctypes.c_int()
        self._context: ctypes.c_void_p | None = None
        count = ctypes.c_int()
        if library.cuInit(0) != 0 or library.cuDeviceGetCount(ctypes.byref(count)) != 0:
            raise UnavailableError(_NO_GPU)
        if count.value == 0 or library.cuDeviceGet(ctypes.byref(self._device), 0) != 0:
            raise UnavailableError(_NO_GPU)

    def capability(self) -> str:
        """The compute capability, as in ``sm89``."""
        return f"sm{self._attribute(_MAJOR)}{self._attribute(_MINOR)}"

    def name(self) -> str:
        """What the maker calls the GPU."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), self._device)
        return name.value.decode(errors="replace")

    def version(self) -> str:
        """The CUDA version of the driver, as in ``13.0``."""
        version = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(version))
        return f"{version.value // 1000}.{version.value % 1000 // 10}"

    def memory(self) -> tuple[int, int]:
        """Bytes of memory on the GPU: free now, and all."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def use(self) -> None:
        """Make the primary context that of the calling thread."""
        if self._context is None:  # it is counted how often it was retained: once is enough
            context = ctypes.c_void_p()
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
            self._context = context
        self._call("cuCtxSetCurrent", self._context)

    def stream(self) -> int:
        """A new stream, to be used by its number."""
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), _NON_BLOCKING)
        return stream.value or 0

    def synchronize(self, stream: int) -> None:
        """Wait for all that ``stream`` was given."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def end_stream(self, stream: int) -> None:
        """Give a stream back."""
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def event(self) -> int:
        """A new event: a place in a stream for which others can wait."""
        event = ctypes.c_void_p()
        self._call("cuEventCreate", ctypes.byref(event), _NO_TIMING)
        return event.value or 0

    def record(self, event: int, stream: int) -> None:
        """Let ``event`` stand for all that ``stream`` was given so far."""
        self._call("cuEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def wait(self, stream: int, event: int) -> None:
        """Let what ``stream`` is given from now on wait for ``event``; the caller does not."""
        self._call("cuStreamWaitEvent", ctypes.c_void_p(stream), ctypes.c_void_p(event), 0)

    def finish(self, event: int) -> None:
        """Wait for ``event``; one that was never recorded is over."""
        self._call("cuEventSynchronize", ctypes.c_void_p(event))

    def end_event(self, event: int) -> None:
        """Give an event back."""
        self._call("cuEventDestroy_v2", ctypes.c_void_p(event))

    def begin_capture(self, stream: int) -> None:
        """Write down what ``stream`` is given, instead of doing it."""
        self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), _THIS_THREAD)

    def end_capture(self, stream: int) -> int:
        """What was written down, ready to be launched.

        Raises:
            CompileError: Something was done meanwhile that cannot be written down.
        """
        graph, ready = ctypes.c_void_p(), ctypes.c_void_p()
        self._call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        try:
            self._call("cuGraphInstantiateWithFlags", ctypes.byref(ready), graph, _FLAGLESS)
        finally:
            self._call("cuGraphDestroy", graph)
        return ready.value or 0

    def launch(self, graph: int, stream: int) -> None:
        """Do in ``stream`` what was written down."""
        self._call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def end_graph(self, graph: int) -> None:
        """Give a graph back."""
        self._call("cuGraphExecDestroy", ctypes.c_void_p(graph))

    def to_device(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Copy from the host's memory."""
        where = ctypes.c_uint64(target), ctypes.c_void_p(source)
        self._copy("cuMemcpyHtoDAsync_v2", *where, nbytes, stream)

    def to_host(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Copy to the host's memory."""
        where = ctypes.c_void_p(target), ctypes.c_uint64(source)
        self._copy("cuMemcpyDtoHAsync_v2", *where, nbytes, stream)

    def copy(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Copy within the GPU's memory."""
        where = ctypes.c_uint64(target), ctypes.c_uint64(source)
        self._copy("cuMemcpyDtoDAsync_v2", *where, nbytes, stream)

    def clear(self, address: int, nbytes: int, stream: int) -> None:
        """Fill memory on the GPU with zeros."""
        if nbytes:
            where = ctypes.c_uint64(address), ctypes.c_ubyte(0), ctypes.c_size_t(nbytes)
            self._call("cuMemsetD8Async", *where, ctypes.c_void_p(stream))

    def allocate(self, nbytes: int) -> int:
        """Memory on the GPU: its address, a multiple of 256."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(nbytes))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back, when all work on the GPU is done."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def _copy(
        self, function: str, target: object, source: object, nbytes: int, stream: int
    ) -> None:
        if nbytes:
            size = ctypes.c_size_t(nbytes)
            self._call(function, target, source, size, ctypes.c_void_p(stream))

    def _attribute(self, which: int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), which, self._device)
        return value.value

    def _call(self, function: str, *arguments: object) -> None:
        status = getattr(self._library, function)(*arguments)
        if status != 0:
            raise CompileError(
                f"the NVIDIA driver refuses {function} (status {status}); "
                "is there memory left on the GPU (nvidia-smi)?"
            )


class Buffer:
    """Memory on the GPU that grows with what it has to hold."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._size = 0
        self.address = 0

    def reserve(self, nbytes: int) -> int:
        """The address of at least ``nbytes`` bytes; what was there before is lost if it grows."""
        if nbytes > self._size or not self.address:
            self.release()
            self.address = self._driver.allocate(max(nbytes, 1))
            self._size = nbytes
        return self.address

    def release(self) -> None:
        """Give the memory back."""
        if self.address:
            self._driver.free(self.address)
            self.address = 0


@functools.cache
def driver() -> Driver:
    """The driver of this machine.

    Raises:
        UnavailableError: There is none, or no GPU.
    """
    try:
        return Driver(ctypes.CDLL("libcuda.so.1"))
    except OSError:
        raise UnavailableError(_NO_GPU) from None
