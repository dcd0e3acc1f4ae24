"""Target: what a device and its runtime can do, as facts."""

from __future__ import annotations

import dataclasses

from infopt.errors import TargetError, nearest


@dataclasses.dataclass(frozen=True)
class Target:
    """Facts about a device and the runtime that serves it."""

    name: str
    """``runtime:device``, the word on the command line."""
    runtime: str
    """The backend's name: ``onnxruntime``."""
    device: str
    """``cpu`` or ``cuda``."""
    provider: str
    """The runtime's own name for the device: ONNX Runtime's execution provider."""
    max_opset: int
    """The newest opset of the standard domain that the runtime loads."""
    max_ir_version: int
    """The newest ONNX IR version that the runtime loads."""
    engine_opsets: tuple[int, ...]
    """Opsets in which to write an engine, the best first; the first that can express the model
    and in which the runtime has every kernel is taken (docs/design/0003-opset.md)."""
    extra: str
    """What to install: ``pip install "infopt[extra]"``."""
    description: str


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        Target(
            name="onnxruntime:cpu",
            runtime="onnxruntime",
            device="cpu",
            provider="CPUExecutionProvider",
            max_opset=26,
            max_ir_version=13,
            engine_opsets=(24, 21),
            extra="cpu",
            description="ONNX Runtime on the processor; the default",
        ),
        Target(
            name="onnxruntime:cuda",
            runtime="onnxruntime",
            device="cuda",
            provider="CUDAExecutionProvider",
            max_opset=26,
            max_ir_version=13,
            # Several CUDA kernels stop at versions before 21, and their nodes would go to the CPU.
            engine_opsets=(20, 23, 24),
            extra="gpu",
            description="ONNX Runtime on an NVIDIA GPU",
        ),
    )
}

DEFAULT_TARGET = "onnxruntime:cpu"


def parse_target(name: str) -> Target:
    """The target called ``name``.

    Raises:
        TargetError: There is no such target.
    """
    if name in TARGETS:
        return TARGETS[name]
    known = ", ".join(TARGETS)
    raise TargetError(f"there is no target {name!r}{nearest(name, TARGETS)}; known: {known}")
