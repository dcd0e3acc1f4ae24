"""Which providers a session is opened with. That they run is for ``pytest -m gpu``."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnxruntime as ort
import pytest

import infopt
from infopt.backends.onnxruntime import providers, runtime
from infopt.backends.onnxruntime.binding import Place
from infopt.backends.onnxruntime.providers import CPU, CUDA, Providers
from infopt.errors import CompileError, UnavailableError, UsageError
from infopt.target import TARGETS

TENSORRT, RTX = "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider"
TARGET = TARGETS["onnxruntime:cuda"]
PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"


class Pretended:
    """ONNX Runtime with other providers; what it is given must fit the real one's signatures."""

    def __init__(self, *available: str, loads: bool = True) -> None:
        self.available = [*available, CPU]
        self.loads = loads
        self.opened: dict[str, Any] = {}
        self.libraries: list[tuple[str, str]] = []
        self.devices: list[Any] = []

    def get_available_providers(self) -> list[str]:
        return self.available

    def InferenceSession(self, *args: Any, **options: Any) -> Any:  # noqa: N802
        bound = inspect.signature(ort.InferenceSession.__init__).bind(None, *args, **options)
        self.opened = bound.arguments
        names = [p if isinstance(p, str) else p[0] for p in bound.arguments["providers"] or []]
        return types.SimpleNamespace(get_providers=lambda: names if self.loads else [CPU])

    def register_execution_provider_library(self, name: str, path: str) -> None:
        self.libraries.append((name, path))

    def get_ep_devices(self) -> list[Any]:
        return self.devices


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Pretended]]:
    def start(*available: str, **options: Any) -> Pretended:
        library = Pretended(*available, **options)
        monkeypatch.setattr(runtime, "onnxruntime", lambda: library)
        monkeypatch.setattr(runtime, "unavailable", lambda target: None)
        return library

    providers._registered_plugin.cache_clear()
    yield start
    providers._registered_plugin.cache_clear()


@pytest.mark.parametrize(
    ("given", "word", "options"),
    [
        ({}, "cuda", {}),
        ({"use_tf32": "0"}, "cuda", {"use_tf32": "0"}),
        (
            {"provider": "tensorrt", "trt_fp16_enable": "1"},
            "tensorrt",
            {"trt_fp16_enable": "1"},
        ),
        ({"provider": "tensorrt-rtx"}, "tensorrt-rtx", {}),
        # One word for users; each provider has its own.
        ({"enable_cuda_graph": "1"}, "cuda", {"enable_cuda_graph": "1"}),
        (
            {"provider": "tensorrt", "enable_cuda_graph": "1"},
            "tensorrt",
            {"trt_cuda_graph_enable": "1"},
        ),
        (
            {"provider": "tensorrt-rtx", "enable_cuda_graph": "1"},
            "tensorrt-rtx",
            {"enable_cuda_graph": "1"},
        ),
    ],
)
def test_the_word_chooses_and_the_others_are_its_options(
    given: Mapping[str, str], word: str, options: Mapping[str, str]
) -> None:
    chosen = Providers.chosen(CUDA, given)
    assert chosen == Providers(word, options)
    assert chosen.binds
    assert chosen.captures == ("enable_cuda_graph" in given)


def test_tensors_lie_where_the_device_is() -> None:
    assert Providers.chosen(CUDA, {}).place == Place("cuda", 0)
    assert str(Providers.chosen(CUDA, {"device_id": "3"}).place) == "cuda:3"
    assert Providers.chosen(CPU, {}).place == Place("cpu")
    assert not Providers.chosen(CPU, {}).binds
    assert not Providers.chosen(CPU, {}).captures


@pytest.mark.parametrize(
    ("provider", "given", "message"),
    [
        (CUDA, {"provider": "tensorrt-rtz"}, "did you mean 'tensorrt-rtx'"),
        (CUDA, {"provider": "openvino"}, "write one of cuda, tensorrt, tensorrt-rtx"),
        (CUDA, {"device_id": "first"}, "device_id=first is not understood"),
        (CPU, {"provider": "cuda"}, "option provider is for the target onnxruntime:cuda"),
        (CPU, {"enable_cuda_graph": "1"}, "option enable_cuda_graph is for the target"),
    ],
)
def test_what_there_is_not_is_refused(
    provider: str, given: Mapping[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Providers.chosen(provider, given)


def test_optimize_refuses_it_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="option provider=rocm is not known"):
        infopt.optimize(
            tmp_path / "there-is-none.onnx",
            tmp_path / "engine",
            target="onnxruntime:cuda",
            provider_options={"provider": "rocm"},
        )


@pytest.mark.parametrize(
    ("word", "available", "expected"),
    [
        ("cpu", (), [(CPU, {"a": "b"})]),
        ("cuda", (CUDA,), [(CUDA, {"a": "b"}), CPU]),
        ("tensorrt", (TENSORRT, CUDA), [(TENSORRT, {"a": "b"}), CUDA, CPU]),
        ("tensorrt-rtx", (RTX,), [(RTX, {"a": "b"}), CPU]),
        ("tensorrt-rtx", (RTX, CUDA), [(RTX, {"a": "b"}), CUDA, CPU]),
    ],
)
def test_others_stand_behind_the_chosen_one(
    pretend: Callable[..., Pretended], word: str, available: tuple[str, ...], expected: list[Any]
) -> None:
    library = pretend(*available)
    Providers(word, {"a": "b"}).open(Path("m.onnx"), "settings", ["Slow"])
    assert library.opened["path_or_bytes"] == "m.onnx"
    assert library.opened["sess_options"] == "settings"
    assert library.opened["providers"] == expected
    assert library.opened["kwargs"]["disabled_optimizers"] == ["Slow"]
    # On a device nothing goes on with the processor in silence.
    assert library.opened["kwargs"].get("enable_fallback", True) is (word == "cpu")


def test_a_provider_that_does_not_load_is_no_silent_loss(
    pretend: Callable[..., Pretended],
) -> None:
    pretend(TENSORRT, CUDA, loads=False)
    with pytest.raises(CompileError, match=r"did not load its provider Tensorrt.*of TensorRT inst"):
        Providers("tensorrt", {}).open(Path("m.onnx"), None, [])


def test_what_is_missing_is_named_with_what_to_install(pretend: Callable[..., Pretended]) -> None:
    pretend(CUDA)
    assert providers.unavailable(TARGET, {}) is None
    assert 'pip install "infopt[gpu,tensorrt]"' in str(
        providers.unavailable(TARGET, {"provider": "tensorrt"})
    )
    assert "onnxruntime-ep-nv-tensorrt-rtx" in str(
        providers.unavailable(TARGET, {"provider": "tensorrt-rtx"})
    )
    pretend(RTX, TENSORRT)
    for word in ("tensorrt", "tensorrt-rtx"):
        assert providers.unavailable(TARGET, {"provider": word}) is None


class Settings:
    """``SessionOptions`` that remember the devices they were given."""

    def __init__(self) -> None:
        self.given: tuple[list[Any], dict[str, str]] | None = None

    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        self.given = devices, options


def _install(monkeypatch: pytest.MonkeyPatch, *, broken: bool = False) -> None:
    """Let the plugin be installed."""

    def path() -> str:
        if broken:
            raise OSError("libnvinfer is missing")
        return "plugin.so"

    plugin = types.SimpleNamespace(get_ep_name=lambda: RTX, get_library_path=path)
    find, load = importlib.util.find_spec, importlib.import_module
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: "there" if name == PLUGIN else find(name)
    )
    monkeypatch.setattr(
        importlib, "import_module", lambda name: plugin if name == PLUGIN else load(name)
    )


def test_the_plugin_runs_on_the_first_gpu_that_it_serves(
    pretend: Callable[..., Pretended], monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pretend()
    _install(monkeypatch)
    other, first, second = (types.SimpleNamespace(ep_name=name) for name in (CPU, RTX, RTX))
    library.devices = [other, first, second]
    assert providers.unavailable(TARGET, {"provider": "tensorrt-rtx"}) is None
    settings = Settings()
    Providers("tensorrt-rtx", {"a": "b"}).open(Path("m.onnx"), settings, [])
    assert library.libraries == [(RTX, "plugin.so")]  # once
    assert settings.given == ([first], {"a": "b"})
    assert library.opened["providers"] is None


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (True, r"does not load \(libnvinfer is missing\); reinstall it"),
        (False, "finds no NVIDIA GPU that it serves"),
    ],
)
def test_a_plugin_that_cannot_says_why(
    pretend: Callable[..., Pretended],
    monkeypatch: pytest.MonkeyPatch,
    broken: bool,
    message: str,
) -> None:
    pretend()
    _install(monkeypatch, broken=broken)
    for _ in range(2):  # a name registers once; the reason stays the same
        with pytest.raises(UnavailableError, match=message):
            Providers("tensorrt-rtx", {}).open(Path("m.onnx"), Settings(), [])


def test_the_real_library_has_what_is_called() -> None:
    assert hasattr(ort.SessionOptions(), "add_provider_for_devices")
    inspect.signature(ort.InferenceSession.create_ortvalue_from_shape_and_type).bind(
        None, (1,), 1, "cuda", 0
    )
    assert all(callable(getattr(ort, name)) for name in ("get_ep_devices", "InferenceSession"))
    assert ort.register_execution_provider_library.__name__ == "register_execution_provider_library"
