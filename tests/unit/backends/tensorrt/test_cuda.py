"""The driver, as far as its answers can be pretended: no test here touches a GPU."""

from __future__ import annotations

import ctypes

import pytest

from infopt.backends.tensorrt import cuda
from infopt.backends.tensorrt.cuda import Buffer, Driver
from infopt.errors import CompileError, UnavailableError
from tests.support.pretended_gpu import Library


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
    other = driver.allocate(4)
    driver.copy(other, address, 4, 0)
    driver.clear(address, 3, 0)
    driver.to_host(ctypes.addressof(target), other, 4, 0)
    assert target.value == b"abc"
    driver.to_host(ctypes.addressof(target), address, 4, 0)
    assert target.raw == bytes(4)


def test_nothing_is_not_copied() -> None:
    library = Library()
    Driver(library).copy(0, 0, 0, 0)
    Driver(library).clear(0, 0, 0)
    assert not library.log


def test_the_context_is_retained_once() -> None:
    library = Library()
    driver = Driver(library)
    driver.use()
    driver.use()
    assert library.took() == ["retain"]


def test_memory_is_told() -> None:
    assert Driver(Library()).memory() == (3 << 30, 4 << 30)


def test_what_is_captured_is_done_when_it_is_launched() -> None:
    library = Library()
    driver = Driver(library)
    stream = driver.stream()
    address = driver.allocate(4)
    source, target = ctypes.create_string_buffer(b"abc"), ctypes.create_string_buffer(4)
    driver.to_device(address, ctypes.addressof(source), 4, stream)
    driver.begin_capture(stream)
    driver.clear(address, 4, stream)
    graph = driver.end_capture(stream)
    driver.to_host(ctypes.addressof(target), address, 4, stream)
    assert target.value == b"abc"
    driver.launch(graph, stream)
    driver.to_host(ctypes.addressof(target), address, 4, stream)
    assert target.value == b""
    driver.end_graph(graph)
    driver.end_stream(stream)
    assert not library.graphs
    assert not library.streams


def test_a_refusal_of_the_driver_is_named() -> None:
    with pytest.raises(CompileError, match=r"refuses cuMemAlloc_v2 \(status 2\)"):
        Driver(Library()).allocate(2 << 20)
