"""Where and with what something was made: versions and hardware, for manifests and reports."""

from __future__ import annotations

import functools
import os
import platform
from importlib import metadata
from pathlib import Path

from infopt._version import __version__

_LIBRARIES = (
    "onnx",
    "onnx-ir",
    "onnxscript",
    "numpy",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
    "transformers",
    "optimum",
    "tensorrt",
    "tensorrt-rtx",
    "tensorrt-rtx-cu13-libs",
)


def versions() -> dict[str, str]:
    """Versions of infopt, Python, and of the libraries that are installed, by name."""
    found = {"infopt": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@functools.cache
def hardware() -> dict[str, str | int]:
    """The machine: processor, usable cores, architecture, system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown"
    for line in text.splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
