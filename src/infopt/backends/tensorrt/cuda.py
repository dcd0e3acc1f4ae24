"""The NVIDIA driver, as far as an engine needs it: a GPU's kind, memory, copies, streams.

The driver's library is wherever a GPU is; so nothing else has to be installed to run an engine.
What is allocated here lies in the primary context, which PyTorch uses, too.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from infopt.errors import CompileError, UnavailableError

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
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

    def use(self) -> None:
        """Make the primary context that of the calling thread."""
        context = ctypes.c_void_p()
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), self._device)
        self._call("cuCtxSetCurrent", context)

    def stream(self) -> int:
        """A new stream, to be used by its number."""
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), 1)  # does not wait for the default one
        return stream.value or 0

    def synchronize(self, stream: int) -> None:
        """Wait for all that ``stream`` was given."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def to_device(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Copy from the host's memory."""
        where = ctypes.c_uint64(target), ctypes.c_void_p(source)
        self._call("cuMemcpyHtoDAsync_v2", *where, ctypes.c_size_t(nbytes), ctypes.c_void_p(stream))

    def to_host(self, target: int, source: int, nbytes: int, stream: int) -> None:
        """Copy to the host's memory."""
        where = ctypes.c_void_p(target), ctypes.c_uint64(source)
        self._call("cuMemcpyDtoHAsync_v2", *where, ctypes.c_size_t(nbytes), ctypes.c_void_p(stream))

    def allocate(self, nbytes: int) -> int:
        """Memory on the GPU: its address."""
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(nbytes))
        return address.value

    def free(self, address: int) -> None:
        """Give memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

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
