"""Calls with their inputs and outputs on a device: nothing is copied that is there already."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.backends.onnxruntime.runtime import onnxruntime
from infopt.engine import TensorSpec

MOST_GRAPHS = 8
"""For so many shapes calls are captured; their memory is kept as long as the session is."""
_NOT_CAPTURED = -1

_TORCH = {"float": "float32", "double": "float64", "float8e4m3fn": "float8_e4m3fn"}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where tensors lie."""

    kind: str
    """``cpu`` or ``cuda``, as both ONNX Runtime and torch call it."""
    index: int = 0

    def __str__(self) -> str:
        """Return it as torch writes it."""
        return f"{self.kind}:{self.index}"


def torch_type(spec: TensorSpec, torch: Any) -> Any:
    """Torch's type for a tensor; ``None`` where it has none."""
    return getattr(torch, _TORCH.get(spec.dtype, spec.dtype), None)


def unbindable(specs: Iterable[TensorSpec]) -> list[str]:
    """The names of those that are no tensors of numbers, and lie on no device."""
    return [spec.name for spec in specs if _element_type(spec) is None]


def _element_type(spec: TensorSpec) -> int | None:
    """ONNX's number of a type."""
    known = ir.DataType.__members__.get(spec.dtype.upper())
    return None if known in (None, ir.DataType.STRING) else known.value


class Binding:
    """Runs a session on tensors of one device."""

    def __init__(self, raw: Any, outputs: tuple[TensorSpec, ...], place: Place) -> None:
        self._raw = raw
        self._outputs = outputs
        self._place = place

    def run(self, tensors: Mapping[str, tuple[TensorSpec, Any]], torch: Any) -> dict[str, Any]:
        """Read tensors where they lie, and return outputs where they were computed.

        Args:
            tensors: Input → its type and a tensor on the device, in one piece.
            torch: The module.
        """
        binding = self._raw.io_binding()
        for name, (spec, tensor) in tensors.items():
            binding.bind_input(
                name,
                self._place.kind,
                self._place.index,
                _element_type(spec),
                tuple(tensor.shape),
                tensor.data_ptr(),
            )
        for spec in self._outputs:
            binding.bind_output(spec.name, self._place.kind, self._place.index)
        _await_torch(self._place, torch)
        self._raw.run_with_iobinding(binding)
        binding.synchronize_outputs()
        found = binding.get_outputs()
        return {
            spec.name: _as_tensor(value, spec, torch)
            for spec, value in zip(self._outputs, found, strict=True)
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
        place: Place,
    ) -> None:
        self._raw = raw
        self._inputs, self._outputs = inputs, outputs
        self._place = place
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
        shapes = tuple(tuple(feeds[spec.name].shape) for spec in self._inputs)
        with self._lock:
            call = self._calls.get(shapes)
            if call is not None:
                call.write(feeds, torch)
                call.run()
                return call.read(torch)
            call = _Call(self._raw, self._inputs, self._outputs, shapes, self._place)
            call.write(feeds, torch)
            call.learn()
            if len(self._calls) < MOST_GRAPHS:
                call.capture(len(self._calls) + 1)
                self._calls[shapes] = call
            return call.read(torch)


class _Call:
    """One set of shapes, and the memory that its graph reads and writes."""

    def __init__(
        self,
        raw: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        shapes: tuple[tuple[int, ...], ...],
        place: Place,
    ) -> None:
        self._raw, self._place = raw, place
        self._inputs = {
            spec.name: _allocate(raw, spec, shape, place)
            for spec, shape in zip(inputs, shapes, strict=True)
        }
        self._specs = outputs
        self._outputs: list[Any] = []
        self._binding = raw.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._settings = _graph(_NOT_CAPTURED)

    def learn(self) -> None:
        """Run once uncaptured: the outputs of that are the memory for those of later runs."""
        for spec in self._specs:
            self._binding.bind_output(spec.name, self._place.kind, self._place.index)
        self.run()
        self._outputs = self._binding.get_outputs()
        self._binding.clear_binding_outputs()
        for spec, value in zip(self._specs, self._outputs, strict=True):
            self._binding.bind_ortvalue_output(spec.name, value)

    def capture(self, number: int) -> None:
        """Run, and let this and later runs be one graph, under a number of its own."""
        self._settings = _graph(number)
        self.run()

    def write(self, given: Mapping[str, Any], torch: Any) -> None:
        """Copy the inputs to where they are read."""
        for name, value in self._inputs.items():
            if torch is None:
                value.update_inplace(np.ascontiguousarray(given[name]))
            else:
                torch.from_dlpack(value._ortvalue).copy_(given[name])
        if torch is not None:
            _await_torch(self._place, torch)

    def run(self) -> None:
        """Compute, and wait until that is done."""
        self._raw.run_with_iobinding(self._binding, self._settings)
        self._binding.synchronize_outputs()

    def read(self, torch: Any) -> dict[str, Any]:
        """Copies of the outputs: the next run writes over them."""
        pairs = list(zip(self._specs, self._outputs, strict=True))
        if torch is None:
            return {spec.name: np.array(value.numpy()) for spec, value in pairs}
        copies = {spec.name: _as_tensor(value, spec, torch).clone() for spec, value in pairs}
        _await_torch(self._place, torch)  # the next run may be another thread's
        return copies


def _graph(number: int) -> Any:
    """Options of a run that belongs to a graph; of none if the number is -1."""
    settings = onnxruntime().RunOptions()
    settings.add_run_config_entry("gpu_graph_id", str(number))
    return settings


def _allocate(raw: Any, spec: TensorSpec, shape: tuple[int, ...], place: Place) -> Any:
    """Memory on the device."""
    make = onnxruntime().OrtValue.ortvalue_from_shape_and_type
    try:
        return make(shape, _element_type(spec), place.kind, place.index)
    except RuntimeError:  # a package without CUDA, whose provider is a plugin and has its own
        kind = _element_type(spec)
        return raw.create_ortvalue_from_shape_and_type(shape, kind, place.kind, place.index)


def _as_tensor(value: Any, spec: TensorSpec, torch: Any) -> Any:
    """The memory of a value of ONNX Runtime as a tensor."""
    tensor = torch.from_dlpack(value._ortvalue)
    # ONNX Runtime's DLPack says that booleans are bytes.
    return tensor.view(torch.bool) if spec.dtype == "bool" else tensor


def _await_torch(place: Place, torch: Any) -> None:
    """Wait for what torch was given: ONNX Runtime works on a stream of its own."""
    if place.kind == "cuda":
        torch.cuda.current_stream(place.index).synchronize()
