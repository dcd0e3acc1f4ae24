"""The onnxruntime library: whether it is there, and what it can do."""

from __future__ import annotations

import functools
from types import ModuleType

from infopt.errors import UnavailableError
from infopt.target import Target


def onnxruntime() -> ModuleType:
    """The library.

    Raises:
        UnavailableError: It is not installed, or does not load.
    """
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise UnavailableError(
            'ONNX Runtime is not installed: pip install "infopt[cpu]", '
            f'or "infopt[gpu]" for NVIDIA GPUs ({error})'
        ) from None
    if not hasattr(ort, "InferenceSession"):
        raise UnavailableError(
            "the installed onnxruntime is broken (a remnant of onnxruntime beside "
            'onnxruntime-gpu?): uninstall both, then pip install "infopt[cpu]" or "infopt[gpu]"'
        )
    return _quiet(ort)


@functools.cache
def _quiet(ort: ModuleType) -> ModuleType:
    ort.set_default_logger_severity(4)  # what matters comes back as an exception
    return ort


def unavailable(target: Target) -> str | None:
    """Why ``target`` cannot run here and what to do; ``None`` if it can."""
    try:
        ort = onnxruntime()
    except UnavailableError as error:
        return str(error)
    if target.provider not in ort.get_available_providers():
        return (
            f"this ONNX Runtime has no {target.provider}: pip uninstall onnxruntime, then "
            f'pip install "infopt[{target.extra}]"'
        )
    if target.device == "cuda":
        return _no_cuda()
    return None


@functools.cache
def _no_cuda() -> str | None:
    """Why no CUDA device can be used, or ``None``; asks ONNX Runtime to use one."""
    import onnx_ir as ir

    ort = onnxruntime()
    value = ir.val("x", ir.DataType.FLOAT, [1])
    node = ir.node("Identity", [value])
    node.outputs[0].name, node.outputs[0].dtype = "y", ir.DataType.FLOAT
    node.outputs[0].shape = ir.Shape([1])
    graph = ir.Graph([value], node.outputs, nodes=[node], opset_imports={"": 17}, name="probe")
    proto = ir.to_proto(ir.Model(graph, ir_version=8))
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # finds the CUDA libraries that pip packages carry
    try:
        session = ort.InferenceSession(
            proto.SerializeToString(), providers=["CUDAExecutionProvider"]
        )
    except Exception as error:
        return f"no CUDA device can be used here: {str(error).strip().splitlines()[0]}"
    if "CUDAExecutionProvider" not in session.get_providers():
        return (
            "no CUDA device can be used here: ONNX Runtime fell back to the processor; "
            "check the driver (nvidia-smi) and that CUDA 13 and cuDNN 9 are installed"
        )
    return None
