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
    """The backend's name: ``onnxruntime``, ``tensorrt`` or ``tensorrt-rtx``."""
    device: str
    """``cpu`` or ``cuda``."""
    provider: str
    """The runtime's own name for the device: ONNX Runtime's execution provider; of TensorRT, the
    Python module."""
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
    capabilities: tuple[str, ...] = ()
    """The compute capabilities of the GPUs to build for, as in ``sm89``; empty for the runtime's
    own choice."""
    selectable: tuple[str, ...] = ()
    """The compute capabilities that may be named behind the target: ``name:sm86+sm89``."""


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
        Target(
            name="tensorrt",
            runtime="tensorrt",
            device="cuda",
            provider="tensorrt",
            max_opset=24,
            max_ir_version=13,
            engine_opsets=(24,),
            extra="tensorrt",
            description="TensorRT on the NVIDIA GPU at hand",
        ),
        Target(
            name="tensorrt-rtx",
            runtime="tensorrt-rtx",
            device="cuda",
            provider="tensorrt_rtx",
            max_opset=24,
            max_ir_version=13,
            engine_opsets=(24,),
            extra="tensorrt-rtx",
            description="TensorRT for RTX, built anywhere; for one GPU, tensorrt-rtx:sm89",
            selectable=("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
        ),
    )
}

DEFAULT_TARGET = "onnxruntime:cpu"


def parse_target(name: str) -> Target:
    """The target called ``name``: one of :data:`TARGETS`, or one for certain GPUs.

    ``tensorrt-rtx:sm86+sm89`` is the target ``tensorrt-rtx`` for compute capabilities 8.6 and 8.9.

    Raises:
        TargetError: There is no such target, or no such compute capability for it.
    """
    if name in TARGETS:
        return TARGETS[name]
    base, colon, wanted = name.partition(":")
    if colon and base in TARGETS:
        return _for_capabilities(TARGETS[base], wanted)
    known = ", ".join(TARGETS)
    raise TargetError(f"there is no target {name!r}{nearest(name, TARGETS)}; known: {known}")


def _for_capabilities(target: Target, wanted: str) -> Target:
    if not target.selectable:
        others = next(other.name for other in TARGETS.values() if other.selectable)
        raise TargetError(
            f"{target.name} builds for the GPU at hand and takes no {wanted!r}; write "
            f"{target.name} on a machine with that GPU, or {others}:sm89 on any"
        )
    chosen = wanted.split("+")
    for capability in chosen:
        if capability not in target.selectable:
            raise TargetError(
                f"{target.name} does not build for {capability!r}"
                f"{nearest(capability, target.selectable)}; it builds for "
                f"{', '.join(target.selectable)}, and for several as in {target.name}:sm86+sm89"
            )
    ordered = tuple(c for c in target.selectable if c in chosen)
    described = " and ".join(f"compute capability {_dotted(c)}" for c in ordered)
    return dataclasses.replace(
        target,
        name=f"{target.name}:{'+'.join(ordered)}",
        capabilities=ordered,
        description=f"{target.description.partition(',')[0]} for {described}",
    )


def _dotted(capability: str) -> str:
    """``8.9`` for ``sm89``."""
    digits = capability.removeprefix("sm")
    return f"{digits[:-1]}.{digits[-1]}"
