"""The forms in which the GPU benchmark runs a model: infopt's engines, and what one has without."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import infopt
from benchmarks.gpu_limits import Device
from benchmarks.gpu_models import Subject
from benchmarks.sessions import quiet
from infopt.backends import backend_for
from infopt.backends.base import RunOptions
from infopt.errors import UnavailableError
from infopt.target import parse_target

COMPILED = "torch.compile"
EAGER = "torch eager"
DEFAULT = "ONNX Runtime"
_CALIBRATED_ON = 4
"""Samples of two rows each; the weights are random, so that more of them would show no more."""

Call = Callable[[], Any]
"""Computes the first output, as a tensor on the device; it may not be done yet."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """A model at a batch size, on a device."""

    subject: Subject
    batch: int
    device: Device
    cache: Path

    @functools.cached_property
    def tensors(self) -> dict[str, Any]:
        """The inputs, on the device."""
        feeds = self.subject.feeds(self.batch, 0)
        return {name: self.device.put(array) for name, array in feeds.items()}


@dataclasses.dataclass(frozen=True)
class Form:
    """One way to run a model."""

    name: str
    precision: str
    make: Callable[[Cell], Call]
    ours: bool = False
    arithmetic: str = ""
    """Of its products, where it is another than the precision."""
    fits: Callable[[Subject], bool] = lambda _: True

    @property
    def limited_by(self) -> str:
        """The ceiling that its products stay below."""
        return self.arithmetic or self.precision


def forms(device: Device) -> Iterator[Form]:
    """All of them, for a device."""
    half = "fp16" if device.is_gpu else "fp32"
    cuda = "onnxruntime:cuda" if device.is_gpu else "onnxruntime:cpu"
    yield Form(COMPILED, half, functools.partial(_torch, precision=half, compiled=True))
    yield Form(EAGER, half, functools.partial(_torch, precision=half, compiled=False))
    # By default its float products round to the 11 bits of TF32 first.
    tf32 = "tf32" if device.is_gpu else "fp32"
    yield Form(DEFAULT, "fp32", functools.partial(_original, target=cuda), arithmetic=tf32)
    if not device.is_gpu:
        for precision in ("fp32", "int8"):
            engine = functools.partial(_engine, target=cuda, precision=precision)
            yield Form(f"infopt, {cuda}", precision, engine, ours=True)
        return
    for name, options in (("", {}), (" with graphs", {"enable_cuda_graph": "1"})):
        engine = functools.partial(_engine, target=cuda, precision="fp16", options=options)
        yield Form(f"infopt, {cuda}{name}", "fp16", engine, ours=True)
    for target in ("tensorrt", "tensorrt-rtx"):
        for precision in ("fp16", "int8", "fp8"):
            engine = functools.partial(_fixed_engine, target=target, precision=precision)
            fits = _is_transformer if precision == "fp8" else (lambda _: True)
            yield Form(f"infopt, {target}", precision, engine, ours=True, fits=fits)


def _is_transformer(subject: Subject) -> bool:
    return subject.transformer


def reference(cell: Cell) -> Any:
    """What the module computes at fp32 on the device, without TF32, as an array."""
    import torch

    module = cell.subject.module().to(cell.device.kind)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.inference_mode():
            return module(*cell.tensors.values()).float().cpu().numpy()
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _torch(cell: Cell, *, precision: str, compiled: bool) -> Call:
    import torch

    dtype = {"fp16": torch.float16, "fp32": torch.float32}[precision]
    module = cell.subject.module().to(cell.device.kind, dtype)
    inputs = [t.to(dtype) if t.is_floating_point() else t for t in cell.tensors.values()]
    if compiled:
        module = torch.compile(module, mode="max-autotune", dynamic=False)

    def call() -> Any:
        with torch.inference_mode():
            return module(*inputs)

    with quiet():
        call()
    return call


def _original(cell: Cell, *, target: str) -> Call:
    """The exported file in a session of ONNX Runtime with nothing set, its inputs in place."""
    backend = backend_for(parse_target(target))
    session = backend.open_model(cell.subject.file(cell.cache), RunOptions())
    return _bound(session, cell)


def _engine(
    cell: Cell, *, target: str, precision: str, options: Mapping[str, str] | None = None
) -> Call:
    """An engine for any batch."""
    _require(target)
    path = _place(cell, target, precision)
    if not path.exists():
        infopt.optimize(
            cell.subject.file(cell.cache),
            path,
            target=target,
            precision=precision,
            data=_samples(cell.subject),
            measure=False,
        )
    return _bound(infopt.load(path, provider_options=options), cell)


def _fixed_engine(cell: Cell, *, target: str, precision: str) -> Call:
    """An engine for this batch only, as torch.compile makes one."""
    _require(target)
    path = _place(cell, target, f"{precision}.{cell.batch}")
    file = cell.subject.file(cell.cache)
    if not path.exists():
        seen = _place(cell, target, f"{precision}.npz")
        if not seen.exists():
            infopt.calibrate(
                file, seen, data=_samples(cell.subject), target=target, precision=precision
            )
        infopt.optimize(
            file,
            path,
            target=target,
            precision=precision,
            calibration=seen,
            shapes=[
                f"{name}={'x'.join(map(str, tensor.shape))}"
                for name, tensor in cell.tensors.items()
            ],
            verify=False,  # the benchmark does, on the device
        )
    return _bound(infopt.load(path), cell)


def _bound(session: infopt.Session, cell: Cell) -> Call:
    """A call of a session, whose inputs may be called otherwise than the module's."""
    names = [spec.name for spec in session.inputs]
    tensors = dict(zip(names, cell.tensors.values(), strict=True))
    if set(names) == set(cell.tensors):
        tensors = cell.tensors
    output = session.outputs[0].name
    return lambda: session(tensors)[output]


def _require(target: str) -> None:
    reason = backend_for(parse_target(target)).unavailable()
    if reason is not None:
        raise UnavailableError(reason)


def _place(cell: Cell, target: str, ending: str) -> Path:
    """Where an engine is kept, for other batches and other forms."""
    room = cell.cache / "gpu" / "engines"
    room.mkdir(parents=True, exist_ok=True)
    return room / f"{cell.subject.file(cell.cache).stem}.{target.replace(':', '-')}.{ending}"


def _samples(subject: Subject) -> list[Mapping[str, Any]]:
    return [subject.feeds(2, 100 + seed) for seed in range(_CALIBRATED_ON)]


def clear(cache: Path) -> None:
    """Throw away the engines of earlier runs: they may be those of another infopt or GPU."""
    shutil.rmtree(cache / "gpu" / "engines", ignore_errors=True)
