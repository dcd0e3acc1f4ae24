"""A session of TensorRT: a plan on the GPU, arrays or tensors in and out.

Written against TensorRT's documentation. It has not run yet: where it was written was no GPU.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from infopt.backends.base import Session
from infopt.backends.tensorrt.cuda import Buffer, Driver
from infopt.engine import TensorSpec
from infopt.errors import CompileError, DataError, nearest

_TYPES: Mapping[str, tuple[str, np.dtype[Any]]] = {
    "FLOAT": ("float", np.dtype(np.float32)),
    "HALF": ("float16", np.dtype(np.float16)),
    "BF16": ("bfloat16", np.dtype(ml_dtypes.bfloat16)),
    "INT8": ("int8", np.dtype(np.int8)),
    "INT32": ("int32", np.dtype(np.int32)),
    "INT64": ("int64", np.dtype(np.int64)),
    "BOOL": ("bool", np.dtype(np.bool_)),
    "UINT8": ("uint8", np.dtype(np.uint8)),
    "FP8": ("float8e4m3fn", np.dtype(ml_dtypes.float8_e4m3fn)),
}
"""TensorRT's name of a type → ONNX's and numpy's."""


class TensorRtSession(Session):
    """Runs one plan on the first GPU. One call at a time: it has one context and one stream."""

    parallel = False

    def __init__(self, trt: Any, driver: Driver, plan: bytes, weights: Path | None = None) -> None:
        """Deserialize a plan that is trusted.

        Args:
            trt: The TensorRT module.
            driver: Of the GPU.
            plan: Native code; its digest has been compared.
            weights: The ONNX file that holds the weights, where the plan has none.

        Raises:
            CompileError: TensorRT refuses the plan.
        """
        driver.use()
        self._driver = driver
        self._logger = trt.Logger(trt.Logger.ERROR)
        self._runtime = trt.Runtime(self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise CompileError("TensorRT refuses the plan on this machine; build the engine again")
        if weights is not None:
            self._put_in(trt, weights)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise CompileError("there is not enough memory on the GPU to run the engine")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        given = [n for n in names if self._engine.get_tensor_mode(n) == trt.TensorIOMode.INPUT]
        self.inputs = tuple(self._spec(name) for name in given)
        self.outputs = tuple(self._spec(name) for name in names if name not in given)
        self._types = {name: _TYPES[self._engine.get_tensor_dtype(name).name][1] for name in names}
        self._ranges = {
            name: tuple(map(tuple, self._engine.get_tensor_profile_shape(name, 0)))
            for name in given
        }
        self._buffers = {name: Buffer(driver) for name in names}
        weakref.finalize(self, _release, self._buffers.values())
        self._stream = driver.stream()
        self._allocators = {spec.name: self._allocator(trt, spec.name) for spec in self.outputs}

    def __call__(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, Any]:
        """Compute the outputs; see :meth:`Session.__call__`."""
        given = {**(inputs or {}), **named}
        torch = sys.modules.get("torch")
        if torch is not None and any(isinstance(v, torch.Tensor) for v in given.values()):
            arrays = {
                name: v.detach().cpu().numpy() if isinstance(v, torch.Tensor) else v
                for name, v in given.items()
            }
            return {name: torch.from_numpy(array) for name, array in self._run(arrays).items()}
        return self._run(given)

    def _run(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        feeds = self._check(given)
        self._driver.use()
        for name, array in feeds.items():
            address = self._buffers[name].reserve(array.nbytes)
            self._driver.to_device(address, array.ctypes.data, array.nbytes, self._stream)
            if not self._context.set_input_shape(name, array.shape):
                raise DataError(f"input {name!r} cannot have shape {list(array.shape)}")
            self._context.set_tensor_address(name, address)
        for name, allocator in self._allocators.items():
            self._context.set_output_allocator(name, allocator)
        if not self._context.execute_async_v3(self._stream):
            raise CompileError("TensorRT could not run the engine; see whether memory is left")
        self._driver.synchronize(self._stream)
        outputs = {}
        for name, allocator in self._allocators.items():
            array = np.empty(allocator.shape, self._types[name])
            source = self._buffers[name].address
            self._driver.to_host(array.ctypes.data, source, array.nbytes, self._stream)
            outputs[name] = array
        self._driver.synchronize(self._stream)
        return outputs

    def _check(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The inputs as TensorRT takes them, or an error that a person understands."""
        for name in given:
            if name not in self._ranges:
                raise DataError(
                    f"there is no input {name!r}{nearest(name, self._ranges)}; "
                    f"the inputs are {', '.join(self._ranges)}"
                )
        feeds = {}
        for name, (least, _, most) in self._ranges.items():
            if name not in given:
                raise DataError(
                    f"input {name!r} is missing; the inputs are {', '.join(self._ranges)}"
                )
            array = np.asarray(given[name])
            if array.dtype != self._types[name]:
                raise DataError(
                    f"input {name!r} is {array.dtype}, the engine takes {self._types[name]}; "
                    f"convert it with .astype('{self._types[name]}')"
                )
            fits = array.ndim == len(least) and all(
                low <= size <= high
                for low, size, high in zip(least, array.shape, most, strict=True)
            )
            if not fits:
                raise DataError(
                    f"input {name!r} has shape {list(array.shape)}; the engine was built for "
                    f"{list(least)} to {list(most)}"
                )
            feeds[name] = np.ascontiguousarray(array).reshape(array.shape)
        return feeds

    def _put_in(self, trt: Any, weights: Path) -> None:
        """Give a plan without weights those of its ONNX file."""
        refitter = trt.Refitter(self._engine, self._logger)
        parser = trt.OnnxParserRefitter(refitter, self._logger)
        if not parser.refit_from_file(str(weights)) or not refitter.refit_cuda_engine():
            raise CompileError("TensorRT cannot put the weights into the plan; build it with them")

    def _spec(self, name: str) -> TensorSpec:
        shape = tuple(None if d < 0 else d for d in self._engine.get_tensor_shape(name))
        return TensorSpec(name, _TYPES[self._engine.get_tensor_dtype(name).name][0], shape)

    def _allocator(self, trt: Any, name: str) -> Any:
        """Gives TensorRT memory for an output whose size may be known only at the end."""
        buffer = self._buffers[name]

        class Allocator(trt.IOutputAllocator):  # type: ignore[misc]
            shape: tuple[int, ...] = ()

            def reallocate_output(self, tensor: str, memory: int, size: int, alignment: int) -> int:
                return buffer.reserve(size)

            def reallocate_output_async(
                self, tensor: str, memory: int, size: int, alignment: int, stream: int
            ) -> int:
                return buffer.reserve(size)

            def notify_shape(self, tensor: str, shape: Any) -> None:
                self.shape = tuple(shape)

        return Allocator()


def _release(buffers: Iterable[Buffer]) -> None:
    for buffer in buffers:
        buffer.release()
