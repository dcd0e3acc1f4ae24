"""Backends: how a target's runtime is fed, asked and run."""

from __future__ import annotations

from infopt.backends.base import Backend
from infopt.target import Target


def backend_for(target: Target) -> Backend:
    """The backend that serves ``target``."""
    # Imported here so that a runtime is only looked for when a target asks for it.
    from infopt.backends.onnxruntime import OnnxRuntimeBackend
    from infopt.backends.tensorrt import TensorRtBackend

    backends: dict[str, type[Backend]] = {
        "onnxruntime": OnnxRuntimeBackend,
        "tensorrt": TensorRtBackend,
        "tensorrt-rtx": TensorRtBackend,
    }
    return backends[target.runtime](target)
