"""Which execution providers run an engine: CUDA's, or one that hands it on to TensorRT.

``--provider-option provider=tensorrt`` (or ``tensorrt-rtx``) chooses, for ``onnxruntime:cuda``; the
other options are then those of that provider. What it does not take runs on CUDA.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infopt.backends.onnxruntime import runtime
from infopt.backends.onnxruntime.binding import Place
from infopt.errors import CompileError, UnavailableError, UsageError, nearest
from infopt.target import Target

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"
_RTX = "NvTensorRTRTXExecutionProvider"
_RTX_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
_WORDS = ("cuda", "tensorrt", "tensorrt-rtx")

_GRAPHS = {"cuda": "enable_cuda_graph", "tensorrt": "trt_cuda_graph_enable"}
"""How the option is called that captures calls; of the others as with CUDA."""
_ON = ("1", "true", "True")


@dataclasses.dataclass(frozen=True)
class Providers:
    """What a session is opened with."""

    word: str
    """``cpu`` or one of the words of the option ``provider``."""
    options: Mapping[str, str]
    """Of that provider."""

    @staticmethod
    def chosen(provider: str, given: Mapping[str, str]) -> Providers:
        """The providers for a target's ``provider`` and the user's options.

        Raises:
            UsageError: There is no such choice.
        """
        options = dict(given)
        if provider == CPU:
            for name in ("provider", "enable_cuda_graph"):
                if name in options:
                    raise UsageError(
                        f"option {name} is for the target onnxruntime:cuda, this is onnxruntime:cpu"
                    )
            return Providers("cpu", options)
        word = options.pop("provider", "cuda")
        if word not in _WORDS:
            raise UsageError(
                f"option provider={word} is not known{nearest(word, _WORDS)}; "
                f"write one of {', '.join(_WORDS)}"
            )
        device = options.get("device_id", "0")
        if not (device.isascii() and device.isdigit()):
            raise UsageError(
                f"option device_id={device} is not understood; write the number of a GPU, from 0 on"
            )
        graphs = _GRAPHS.get(word, "enable_cuda_graph")
        if "enable_cuda_graph" in options:
            options[graphs] = options.pop("enable_cuda_graph")
        return Providers(word, options)

    @property
    def binds(self) -> bool:
        """Whether tensors lie on a device, and are handed over by address."""
        return self.word != "cpu"

    @property
    def place(self) -> Place:
        """Where tensors lie."""
        return (
            Place("cuda", int(self.options.get("device_id", "0"))) if self.binds else Place("cpu")
        )

    @property
    def captures(self) -> bool:
        """Whether calls are to be captured as CUDA graphs."""
        return self.options.get(_GRAPHS.get(self.word, "enable_cuda_graph"), "0") in _ON

    def open(self, file: Path, settings: Any, without: list[str]) -> Any:
        """A session of ONNX Runtime.

        Args:
            file: An ONNX file.
            settings: Its ``SessionOptions``.
            without: Optimizers that are not to run.

        Raises:
            CompileError: The provider that was asked for does not run the model.
            UnavailableError: It is not there.
        """
        ort = runtime.onnxruntime()
        if self.word == "tensorrt-rtx" and _RTX not in ort.get_available_providers():
            if self.place.index:
                raise UsageError(
                    "the plugin of TensorRT for RTX runs on the first GPU; leave device_id away, "
                    "or choose another one with CUDA_VISIBLE_DEVICES"
                )
            settings.add_provider_for_devices(_plugin_devices(), dict(self.options))
            return _open(ort, file, settings, None, without, device=True)
        providers: list[Any] = [(self._name(), dict(self.options))]
        # Those behind it are for the operators that it lacks.
        if self.word in ("tensorrt", "tensorrt-rtx") and CUDA in ort.get_available_providers():
            providers.append(CUDA)
        if self.binds:
            providers.append(CPU)
        session = _open(ort, file, settings, providers, without, device=self.binds)
        if self._name() not in session.get_providers():
            raise CompileError(
                f"ONNX Runtime did not load its provider {self._name()}; are the libraries of "
                f"{self._called()} installed, in the version that it was built with?"
            )
        return session

    def _name(self) -> str:
        return {"cpu": CPU, "cuda": CUDA, "tensorrt": _TENSORRT, "tensorrt-rtx": _RTX}[self.word]

    def _called(self) -> str:
        return {"tensorrt": "TensorRT", "tensorrt-rtx": "TensorRT for RTX"}.get(self.word, "CUDA")


def unavailable(target: Target, given: Mapping[str, str]) -> str | None:
    """Why ``target`` cannot run here with these options and what to do; ``None`` if it can."""
    chosen = Providers.chosen(target.provider, given)
    if chosen.word not in ("tensorrt", "tensorrt-rtx"):
        return runtime.unavailable(target)
    try:
        there = runtime.onnxruntime().get_available_providers()
        if chosen.word == "tensorrt":
            if _TENSORRT in there:
                return runtime.unavailable(target)
            return (
                "this ONNX Runtime has no provider for TensorRT: pip uninstall onnxruntime, then "
                'pip install "infopt[gpu,tensorrt]"'
            )
        if _RTX not in there:
            _plugin_devices()
    except UnavailableError as error:
        return str(error)
    return None


def _open(
    ort: Any, file: Path, settings: Any, providers: Any, without: list[str], *, device: bool
) -> Any:
    # Where a device fails ONNX Runtime would say so on the screen, and go on with the processor.
    more = {"enable_fallback": False} if device else {}
    return ort.InferenceSession(
        str(file), settings, providers=providers, disabled_optimizers=without, **more
    )


def _plugin_devices() -> list[Any]:
    """The first GPU that the plugin of TensorRT for RTX serves.

    Raises:
        UnavailableError: The plugin is not installed, does not load, or finds none.
    """
    name = _registered_plugin()
    devices = [it for it in runtime.onnxruntime().get_ep_devices() if it.ep_name == name]
    if not devices:
        raise UnavailableError("the plugin of TensorRT for RTX finds no NVIDIA GPU that it serves")
    return devices[:1]


@functools.cache
def _registered_plugin() -> str:
    """What the plugin's provider is called, once ONNX Runtime knows it: a name registers once."""
    ort = runtime.onnxruntime()
    if importlib.util.find_spec(_RTX_PLUGIN) is None:
        raise UnavailableError(
            "this ONNX Runtime has no provider for TensorRT for RTX: pip uninstall "
            'onnxruntime-gpu, then pip install "infopt[cpu]" onnxruntime-ep-nv-tensorrt-rtx'
        )
    try:
        plugin = importlib.import_module(_RTX_PLUGIN)
        name: str = plugin.get_ep_name()
        ort.register_execution_provider_library(name, plugin.get_library_path())
    except Exception as error:  # whatever a missing library of NVIDIA's makes it say
        raise UnavailableError(
            f"the plugin of TensorRT for RTX does not load ({error}); reinstall it: "
            "pip install --force-reinstall onnxruntime-ep-nv-tensorrt-rtx"
        ) from None
    return name
