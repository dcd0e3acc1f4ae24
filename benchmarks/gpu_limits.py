"""The device of the GPU benchmark, what it can do at most, and how long a model takes it at least.

With ``cpu`` in the place of the GPU the benchmark can be rehearsed; these are no figures.
"""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.errors import UnavailableError
from infopt.importers import import_model
from infopt.ir.cost import cost
from infopt.measure.timing import REST

_ROUNDS, _CALLS = 7, 10
_WIDTH: Mapping[str, int] = {"fp32": 4, "tf32": 4, "fp16": 2, "int8": 1, "fp8": 1}
"""Bytes of a weight."""


@dataclasses.dataclass(frozen=True)
class Device:
    """``cuda``, or ``cpu`` to rehearse."""

    kind: str

    @property
    def is_gpu(self) -> bool:
        """Whether figures are those of a GPU."""
        return self.kind == "cuda"

    def require(self) -> None:
        """Refuse to go on without it.

        Raises:
            UnavailableError: There is no GPU, or torch does not see it.
        """
        import torch

        if self.is_gpu and not torch.cuda.is_available():
            raise UnavailableError(
                "torch sees no CUDA device here: a driver (nvidia-smi) and a torch with CUDA are "
                "needed"
            )

    def finish(self) -> None:
        """Wait until all that the device was given is done."""
        import torch

        if self.is_gpu:
            torch.cuda.synchronize()

    def rest(self, seconds: float) -> None:
        """What :func:`interleave` does between subjects; beside a GPU's nothing goes on."""
        time.sleep(0.0 if self.is_gpu else min(seconds, REST))

    def forget(self) -> None:
        """Give memory back that nothing uses any more."""
        import gc

        import torch

        torch._dynamo.reset()
        gc.collect()
        if self.is_gpu:
            torch.cuda.empty_cache()

    def put(self, array: np.ndarray) -> Any:
        """A tensor on the device."""
        import torch

        return torch.from_numpy(array).to(self.kind)

    def describe(self) -> dict[str, Any]:
        """What it is, ready for JSON."""
        import torch

        if not self.is_gpu:
            return {"name": "processor, to rehearse"}
        found = torch.cuda.get_device_properties(0)
        return {
            "name": found.name,
            "capability": f"sm{found.major}{found.minor}",
            "memory_bytes": found.total_memory,
            "multiprocessors": found.multi_processor_count,
            "l2_bytes": getattr(found, "L2_cache_size", None),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            **_driver(),
        }


def _driver() -> dict[str, str]:
    """What the driver says of itself and of limits that were set."""
    asked = ("driver_version", "power.limit", "clocks.max.sm", "clocks.max.memory")
    if shutil.which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={','.join(asked)}", "--format=csv,noheader", "--id=0"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (subprocess.SubprocessError, OSError):
        return {}
    words = (word.strip() for word in said.stdout.split(","))
    return dict(zip((name.replace(".", "_") for name in asked), words, strict=False))


def ceilings(device: Device) -> dict[str, Any]:
    """Bytes per second of a copy on the device, and operations per second of matrix products.

    A copy of n bytes moves 2n. Of several rounds the fastest counts: it is a ceiling.
    """
    import torch

    size, side = (1 << 30, 8192) if device.is_gpu else (1 << 22, 192)
    source = torch.zeros(size, dtype=torch.uint8, device=device.kind)
    target = torch.empty_like(source)
    copied = _fastest(lambda: target.copy_(source), device)
    found: dict[str, float | None] = {}
    for name, product in _products(device, side).items():
        try:
            found[name] = 2 * side**3 / _fastest(product, device)
        except Exception:  # the GPU or this torch has no such product
            found[name] = None
    return {"bytes_per_s": 2 * size / copied, "operations_per_s": found}


def _products(device: Device, side: int) -> dict[str, Callable[[], object]]:
    """A product of two square matrices in each arithmetic."""
    import torch

    def random(dtype: Any) -> Any:
        return torch.randn(side, side, device=device.kind).to(dtype)

    def float32(tf32: bool) -> Callable[[], object]:
        a = random(torch.float32)

        def product() -> object:
            before = torch.backends.cuda.matmul.allow_tf32
            torch.backends.cuda.matmul.allow_tf32 = tf32
            try:
                return a @ a
            finally:
                torch.backends.cuda.matmul.allow_tf32 = before

        return product

    def half() -> object:
        return halves @ halves

    def integers() -> object:
        return torch._int_mm(eighths, eighths.t())

    def floats8() -> object:
        a = eighths.to(torch.float8_e4m3fn)
        one = torch.ones((), device=device.kind)

        def product() -> object:
            return torch._scaled_mm(a, a.t(), one, one, out_dtype=torch.float16)

        return product

    halves = random(torch.float16)
    eighths = torch.randint(-8, 8, (side, side), dtype=torch.int8, device=device.kind)
    found = {"fp32": float32(False), "tf32": float32(True), "fp16": half, "int8": integers}
    return {**found, "fp8": _made(floats8)}


def _made(make: Callable[[], Any]) -> Callable[[], object]:
    """A call that makes what it calls when it is called first."""
    made: list[Any] = []

    def call() -> object:
        if not made:
            made.append(make())
        return made[0]()

    return call


def _fastest(call: Callable[[], object], device: Device) -> float:
    """Seconds of one of several calls that are given at once."""
    call()
    device.finish()
    best = float("inf")
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        for _ in range(_CALLS):
            call()
        device.finish()
        best = min(best, (time.perf_counter() - start) / _CALLS)
    return best


@dataclasses.dataclass(frozen=True)
class Work:
    """What a call has to do in any case."""

    macs: int
    """Multiply-accumulates of products and convolutions."""
    weights: int
    """Elements of weights that are read as a whole, tables apart of which it looks rows up."""
    moved: int
    """Bytes of inputs and outputs."""

    def limit(self, arithmetic: str, found: Mapping[str, Any]) -> tuple[float, str] | None:
        """Seconds that a call takes at least, and because of what; ``None`` if not known.

        Args:
            arithmetic: Of the products: ``fp16`` and so on.
            found: Ceilings.
        """
        speed = found["operations_per_s"].get(arithmetic)
        if not speed:
            return None
        bytes_ = self.weights * _WIDTH[arithmetic] + self.moved
        return max((2 * self.macs / speed, "products"), (bytes_ / found["bytes_per_s"], "memory"))


def work(file: Path, feeds: Mapping[str, np.ndarray], output: np.ndarray) -> Work:
    """What a model has to do on these inputs.

    Args:
        file: Its ONNX file.
        feeds: Inputs.
        output: What it computes of them.
    """
    model = import_model(file).model
    sizes = {}
    for value in model.graph.inputs:
        for dim, size in zip(value.shape or (), feeds[value.name or ""].shape, strict=True):
            if isinstance(dim, ir.SymbolicDim) and dim.value is not None:
                sizes[dim.value] = size
    found = cost(model, sizes)
    read = sum(o.parameters for o in found.operators if o.operator != "Gather")
    return Work(found.macs, read, output.nbytes + sum(array.nbytes for array in feeds.values()))
