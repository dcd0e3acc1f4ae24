import ctypes
import importlib.metadata
from pathlib import Path
from typing import Any

import pytest

from infopt import environment
from infopt.environment import Check, Gpu, Level, diagnose, unavailable
from infopt.target import TARGETS


def _diagnosed() -> dict[str, Check]:
    return {check.subject: check for check in diagnose()}


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Versions to pretend, by package; ``None`` for a package that is not there."""
    pretended: dict[str, str | None] = {}
    real = environment._version

    def version(name: str) -> str | None:
        return pretended[name] if name in pretended else real(name)

    monkeypatch.setattr(environment, "_version", version)
    return pretended


def test_ranges_are_those_of_the_package(versions: dict[str, str | None]) -> None:
    found = _diagnosed()
    for text in importlib.metadata.requires("infopt") or ():
        if "extra" in text:
            continue
        name = text.split("<")[0].split(">")[0]
        assert found[name].level is Level.OK, found[name]
        for part in found[name].wanted.split(", "):
            assert part in text


def test_a_core_package_out_of_range_fails(versions: dict[str, str | None]) -> None:
    versions["onnx"] = "1.19.0"
    check = _diagnosed()["onnx"]
    assert (check.level, check.found) == (Level.FAIL, "1.19.0")
    assert check.advice.startswith('pip install "onnx<')


def test_an_optional_package_out_of_range_warns(versions: dict[str, str | None]) -> None:
    versions["torch"] = "2.4.0"
    assert _diagnosed()["torch"].level is Level.WARN


def test_an_optional_package_that_is_not_there_is_a_note(
    versions: dict[str, str | None],
) -> None:
    versions["torch"] = None
    check = _diagnosed()["torch"]
    assert check.level is Level.NOTE
    assert check.advice == 'to optimize PyTorch modules: pip install "infopt[torch]"'


def test_two_runtimes_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ["onnxruntime", "onnxruntime-gpu"]
    monkeypatch.setattr(environment, "_owners", lambda module: both)
    check = _diagnosed()["onnxruntime"]
    assert check.level is Level.FAIL
    assert "pip uninstall onnxruntime onnxruntime-gpu" in check.advice


def test_no_runtime_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_owners", lambda module: [])
    check = _diagnosed()["onnxruntime"]
    assert (check.level, check.found) == (Level.FAIL, "not installed")
    assert "infopt[cpu]" in check.advice


def test_the_limits_of_the_installed_runtime_are_found_by_trying() -> None:
    found = environment.runtime()
    assert isinstance(found, environment.Runtime)
    assert (found.max_opset, found.max_ir_version) == (26, 13)
    assert "CPUExecutionProvider" in found.providers


def test_an_older_runtime_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    older = environment.Runtime("1.17.0", ("CPUExecutionProvider",), 20, 9)
    monkeypatch.setattr(environment, "runtime", lambda: older)
    check = _diagnosed()["ONNX limits"]
    assert check.level is Level.FAIL
    assert check.found == "opset 20, IR version 9"


def test_a_runtime_that_does_not_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "runtime", lambda: "libcudart.so.13: cannot open")
    check = _diagnosed()["onnxruntime loads"]
    assert check.level is Level.FAIL
    assert "libcudart" in check.found


def test_a_gpu_that_the_installed_runtime_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "gpu", lambda: Gpu(("NVIDIA L4",), "13.0"))
    monkeypatch.setattr(environment, "_owners", lambda module: ["onnxruntime"])
    check = _diagnosed()["NVIDIA GPU"]
    assert check.level is Level.WARN
    assert check.found == "NVIDIA L4 (driver: CUDA 13.0)"
    assert "infopt[gpu]" in check.advice


class _Cuda:
    """What libcuda answers on a machine with two GPUs."""

    names = (b"NVIDIA L4", b"NVIDIA H200")

    def __init__(self, library: str) -> None:
        assert library == "libcuda.so.1"

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 13_010
        return 0

    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = len(self.names)
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:  # noqa: N802
        device._obj.value = 100 + ordinal
        return 0

    def cuDeviceGetName(self, buffer: Any, size: int, device: Any) -> int:  # noqa: N802
        buffer.value = self.names[device.value - 100][: size - 1]
        return 0


class _CudaWithoutDevice(_Cuda):
    def cuInit(self, flags: int) -> int:  # noqa: N802
        return 100  # CUDA_ERROR_NO_DEVICE


@pytest.mark.parametrize(
    ("library", "expected"),
    [
        (_Cuda, Gpu(("NVIDIA L4", "NVIDIA H200"), "13.1")),
        (_CudaWithoutDevice, Gpu((), "13.1")),
    ],
)
def test_the_driver_is_asked_for_its_gpus(
    monkeypatch: pytest.MonkeyPatch, library: type[_Cuda], expected: Gpu
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", library)
    assert environment.gpu.__wrapped__() == expected


def test_the_kernel_driver_is_asked_where_libcuda_is_not(tmp_path: Path) -> None:
    for number, name in enumerate(("NVIDIA L4", "NVIDIA H200")):
        file = tmp_path / "gpus" / f"0000:0{number}:00.0" / "information"
        file.parent.mkdir(parents=True)
        file.write_text(f"Model: \t\t {name}\nIRQ:   \t\t 16\n")
    assert environment._gpu_from_proc(tmp_path) == Gpu(("NVIDIA L4", "NVIDIA H200"), "")
    assert environment._gpu_from_proc(tmp_path / "nothing") == Gpu((), "")


def test_wishes_of_other_packages_are_heard(versions: dict[str, str | None]) -> None:
    versions["tokenizers"] = "0.1.0"
    check = _diagnosed()["transformers needs tokenizers"]
    assert (check.level, check.found) == (Level.WARN, "0.1.0")


def test_the_processor_is_always_a_target() -> None:
    assert unavailable(TARGETS["onnxruntime:cpu"]) == ""


def test_without_a_gpu_there_is_no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "gpu", lambda: Gpu((), ""))
    assert "no NVIDIA GPU" in unavailable(TARGETS["onnxruntime:cuda"])
