"""Where inputs come from and outputs go to: arrays of the processor, or tensors on the GPU."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from infopt.backends.tensorrt.cuda import Buffer, Driver
from infopt.backends.tensorrt.profiles import Sizes

ALIGNMENT = 256
"""TensorRT's kernels read from addresses that are multiples of it."""


@dataclasses.dataclass(frozen=True)
class Feed:
    """One input."""

    shape: Sizes
    address: int
    nbytes: int
    on_gpu: bool
    held: object
    """Whatever owns the memory."""

    @property
    def usable(self) -> bool:
        """Whether a kernel can read it where it lies."""
        return self.on_gpu and self.nbytes > 0 and self.address % ALIGNMENT == 0


def feed_of_array(array: np.ndarray) -> Feed:
    """An array in one piece, in the processor's memory."""
    return Feed(array.shape, array.ctypes.data, array.nbytes, on_gpu=False, held=array)


def feed_of_tensor(tensor: Any) -> Feed:
    """A torch tensor in one piece, on the GPU."""
    nbytes = tensor.numel() * tensor.element_size()
    return Feed(tuple(tensor.shape), tensor.data_ptr(), nbytes, on_gpu=True, held=tensor)


class Results(Protocol):
    """Room for the outputs of one call."""

    def place(self, name: str, shape: Sizes) -> int:
        """The address of room for an output of that shape."""

    def grow(self, name: str, nbytes: int) -> int:
        """The address of room for an output whose shape is not known yet."""

    def take(self, name: str, shape: Sizes, source: int, stream: int) -> Any:
        """The output that lies, or will lie, at ``source`` when ``stream`` has come that far."""

    def keep(self, array: np.ndarray) -> Any:
        """The output that lies in the processor's memory already."""


class Arrays:
    """Outputs as numpy arrays: complete once the stream is synchronized."""

    def __init__(
        self, driver: Driver, buffers: Mapping[str, Buffer], dtypes: Mapping[str, np.dtype[Any]]
    ) -> None:
        self._driver = driver
        self._buffers = buffers
        self._dtypes = dtypes

    def place(self, name: str, shape: Sizes) -> int:
        return self.grow(name, math.prod(shape) * self._dtypes[name].itemsize)

    def grow(self, name: str, nbytes: int) -> int:
        return self._buffers[name].reserve(nbytes)

    def take(self, name: str, shape: Sizes, source: int, stream: int) -> Any:
        array = np.empty(shape, self._dtypes[name])
        self._driver.to_host(array.ctypes.data, source, array.nbytes, stream)
        return array

    def keep(self, array: np.ndarray) -> Any:
        return array


class Tensors:
    """Outputs as torch tensors that the GPU writes into: nothing is copied, nothing waits."""

    def __init__(
        self, driver: Driver, torch: Any, device: Any, dtypes: Mapping[str, np.dtype[Any]]
    ) -> None:
        self._driver = driver
        self._torch = torch
        self._device = device
        self._dtypes = dtypes
        self._made: dict[str, Any] = {}

    def place(self, name: str, shape: Sizes) -> int:
        return self.grow(name, math.prod(shape) * self._dtypes[name].itemsize)

    def grow(self, name: str, nbytes: int) -> int:
        torch = self._torch
        # What holds nothing has no address, and TensorRT wants one.
        self._made[name] = torch.empty(max(nbytes, 1), dtype=torch.uint8, device=self._device)
        return int(self._made[name].data_ptr())

    def take(self, name: str, shape: Sizes, source: int, stream: int) -> Any:
        nbytes = math.prod(shape) * self._dtypes[name].itemsize
        if name not in self._made:  # it lies in memory that the next call uses again
            self._driver.copy(self.place(name, shape), source, nbytes, stream)
        dtype = torch_type(self._dtypes[name], self._torch)
        return self._made[name][:nbytes].view(dtype).view(shape)

    def keep(self, array: np.ndarray) -> Any:
        return to_tensor(array, self._torch)


_TORCH: Mapping[np.dtype[Any], str] = {
    np.dtype(ml_dtypes.bfloat16): "bfloat16",
    np.dtype(ml_dtypes.float8_e4m3fn): "float8_e4m3fn",
}
"""Types that torch calls as numpy does not; those that numpy lacks cannot be handed over."""


def torch_type(dtype: np.dtype[Any], torch: Any) -> Any:
    """Torch's type for one of numpy's."""
    return getattr(torch, _TORCH.get(dtype, dtype.name))


def to_array(tensor: Any, torch: Any) -> np.ndarray:
    """What a torch tensor holds, as an array of the processor."""
    tensor = tensor.detach().cpu().contiguous()
    for dtype, name in _TORCH.items():
        if tensor.dtype == getattr(torch, name):
            integers = getattr(torch, f"int{8 * dtype.itemsize}")
            return np.asarray(tensor.view(integers).numpy()).view(dtype)
    return np.asarray(tensor.numpy())


def to_tensor(array: np.ndarray, torch: Any) -> Any:
    """A torch tensor that holds the memory of an array."""
    if array.dtype not in _TORCH:
        return torch.from_numpy(array)
    integers = torch.from_numpy(array.view(f"int{8 * array.dtype.itemsize}"))
    return integers.view(torch_type(array.dtype, torch))
