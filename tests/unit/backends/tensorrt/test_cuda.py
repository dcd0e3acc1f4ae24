"""The driver, as far as its answers can be pretended: no test here touches a GPU."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from infopt.backends.tensorrt import cuda
from infopt.backends.tensorrt.cuda import Buffer, Driver
from infopt.errors import CompileError, UnavailableError


class Library:
    """What ``libcuda`` answers on a machine with one GPU, whose memory is this process's."""

    def __init__(self, devices: int = 1) -> None:
        self.devices = devices
        self.memory: dict[int, Any] = {}

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

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:  # noqa: N802
        if size.value > 1 << 20:
            return 2  # out of memory
        block = ctypes.create_string_buffer(size.value)
        address._obj.value = ctypes.addressof(block)
        self.memory[address._obj.value] = block
        return 0

    def cuMemFree_v2(self, address: Any) -> int:  # noqa: N802
        del self.memory[address.value]
        return 0

    def cuMemcpyHtoDAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:  # noqa: N802
        ctypes.memmove(to.value, source.value, size.value)
        return 0

    def cuMemcpyDtoHAsync_v2(self, to: Any, source: Any, size: Any, stream: Any) -> int:  # noqa: N802
        ctypes.memmove(to.value, source.value, size.value)
        return 0


def test_what_the_driver_says_of_the_gpu() -> None:
    driver = Driver(Library())
    assert (driver.capability(), driver.name(), driver.version()) == ("sm120", "NVIDIA L4", "13.1")


def test_no_gpu() -> None:
    with pytest.raises(UnavailableError, match="no NVIDIA GPU here"):
        Driver(Library(devices=0))


def test_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(UnavailableError, match="its driver is not installed"):
        cuda.driver.__wrapped__()


def test_a_buffer_grows_and_is_given_back() -> None:
    library = Library()
    buffer = Buffer(Driver(library))
    first = buffer.reserve(16)
    assert buffer.reserve(8) == first
    second = buffer.reserve(64)
    assert set(library.memory) == {second}
    buffer.release()
    assert not library.memory
    assert buffer.reserve(0) in library.memory


def test_there_and_back() -> None:
    driver = Driver(Library())
    address = driver.allocate(4)
    source, target = ctypes.create_string_buffer(b"abc"), ctypes.create_string_buffer(4)
    driver.to_device(address, ctypes.addressof(source), 4, 0)
    driver.to_host(ctypes.addressof(target), address, 4, 0)
    assert target.value == b"abc"


def test_a_refusal_of_the_driver_is_named() -> None:
    with pytest.raises(CompileError, match=r"refuses cuMemAlloc_v2 \(status 2\)"):
        Driver(Library()).allocate(2 << 20)
