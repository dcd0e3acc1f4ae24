"""Calls with their inputs and outputs on a device: nothing is copied that is there already."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.backends.onnxruntime.runtime import onnxruntime
from infopt.engine import TensorSpec

MOST_GRAPHS = 8
"""For so many shapes calls are captured; ONNX Runtime never gives a graph back."""
_NOT_CAPTURED = "-1"  # InferenceSession::kGraphAnnotationSkip

_TORCH = {"float": "float32", "double": "float64", "float8e4m3fn": "float8_e4m3fn"}


def torch_type(spec: TensorSpec, torch: Any) -> Any:
    """Torch's type for an input; ``None`` where it has none."""
    return getattr(torch, _TORCH.get(spec.dtype, spec.dtype), None)


def element_type(spec: TensorSpec) -> int:
    """ONNX's number of a type."""
    return ir.DataType[spec.dtype.upper()].value


class Binding:
    """Runs a session on tensors of one device."""

    def __init__(self, raw: Any, outputs: tuple[TensorSpec, ...], device: str) -> None:
        self._raw = raw
        self._names = [spec.name for spec in outputs]
        self._device = device

    def run(
        self, tensors: Mapping[str, tuple[TensorSpec, Any]], torch: Any, settings: Any = None
    ) -> dict[str, Any]:
        """Read tensors where they lie, and return outputs where they were computed.

        Args:
            tensors: Input → its type and a tensor on the device, in one piece.
            torch: The module.
            settings: ONNX Runtime's ``RunOptions``.
        """
        binding = self._raw.io_binding()
        for name, (spec, tensor) in tensors.items():
            binding.bind_input(
                name,
                self._device,
                0,
                element_type(spec),
                tuple(tensor.shape),
                tensor.data_ptr(),
            )
        for name in self._names:
            binding.bind_output(name, self._device)
        if self._device == "cuda":  # ONNX Runtime works on a stream of its own
            torch.cuda.current_stream().synchronize()
        self._raw.run_with_iobinding(binding, settings)
        binding.synchronize_outputs()
        found = binding.get_outputs()
        return {
            name: torch.from_dlpack(value._ortvalue)
            for name, value in zip(self._names, found, strict=True)
        }


class CapturedCalls:
    """Runs a session with calls captured, one for each set of shapes.

    A CUDA graph reads and writes the memory that it was captured with, so inputs are copied there
    and outputs from there. One call at a time: all share that memory.
    """

    def __init__(
        self,
        raw: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        device: str,
    ) -> None:
        self._raw = raw
        self._inputs = {spec.name: spec for spec in inputs}
        self._names = [spec.name for spec in outputs]
        self._device = device
        self._calls: dict[tuple[tuple[int, ...], ...], _Call] = {}
        self._lock = threading.Lock()

    @property
    def captured(self) -> int:
        """For how many sets of shapes calls are captured."""
        return len(self._calls)

    def run(self, feeds: Mapping[str, Any], torch: Any = None) -> dict[str, Any]:
        """Compute outputs.

        Args:
            feeds: Every input: an array, or with ``torch`` a tensor on the device.
            torch: The module, where inputs and outputs are tensors.
        """
        given = {name: feeds[name] for name in self._inputs}
        shapes = tuple(tuple(value.shape) for value in given.values())
        with self._lock:
            call = self._calls.get(shapes)
            if call is None:
                call = _Call(self._raw, self._inputs, self._names, shapes, self._device)
                call.write(given, torch)
                call.learn()
                if len(self._calls) < MOST_GRAPHS:
                    self._calls[shapes] = call
                    call.capture_as(len(self._calls))
            else:
                call.write(given, torch)
            call.run()
            return call.read(torch)


class _Call:
    """One set of shapes, and the memory that its graph reads and writes."""

    def __init__(
        self,
        raw: Any,
        inputs: Mapping[str, TensorSpec],
        outputs: list[str],
        shapes: tuple[tuple[int, ...], ...],
        device: str,
    ) -> None:
        ort = onnxruntime()
        self._raw, self._device = raw, device
        self._inputs = {
            name: ort.OrtValue.ortvalue_from_shape_and_type(shape, element_type(spec), device, 0)
            for (name, spec), shape in zip(inputs.items(), shapes, strict=True)
        }
        self._names = outputs
        self._outputs: list[Any] = []
        self._binding = raw.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._settings = ort.RunOptions()
        self._settings.add_run_config_entry("gpu_graph_id", _NOT_CAPTURED)

    def learn(self) -> None:
        """Run once uncaptured: the outputs of that are the memory for those of later runs."""
        for name in self._names:
            self._binding.bind_output(name, self._device)
        self.run()
        self._outputs = self._binding.get_outputs()
        self._binding.clear_binding_outputs()
        for name, value in zip(self._names, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def capture_as(self, number: int) -> None:
        """Let the next run be captured, under a number of its own."""
        self._settings.add_run_config_entry("gpu_graph_id", str(number))

    def write(self, given: Mapping[str, Any], torch: Any) -> None:
        """Copy the inputs to where they are read."""
        for name, value in given.items():
            if torch is None:
                self._inputs[name].update_inplace(np.ascontiguousarray(value))
            else:
                torch.from_dlpack(self._inputs[name]._ortvalue).copy_(value)
        if torch is not None and self._device == "cuda":
            torch.cuda.current_stream().synchronize()

    def run(self) -> None:
        self._raw.run_with_iobinding(self._binding, self._settings)
        self._binding.synchronize_outputs()

    def read(self, torch: Any) -> dict[str, Any]:
        """Copies of the outputs: the next run writes over them."""
        pairs = zip(self._names, self._outputs, strict=True)
        if torch is None:
            return {name: np.array(value.numpy()) for name, value in pairs}
        return {name: torch.from_dlpack(value._ortvalue).clone() for name, value in pairs}
