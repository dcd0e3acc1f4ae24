"""The TensorRT libraries: which of them is there, and why not."""

from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType

from infopt.backends.tensorrt import cuda
from infopt.errors import UnavailableError
from infopt.target import Target

_MODULES = {
    "tensorrt": ("tensorrt",),
    # The wheels that build anywhere bring the second name only.
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}


def module_name(target: Target) -> str:
    """The name of the Python module that serves ``target``; it is not imported.

    Raises:
        UnavailableError: None is installed.
    """
    for name in _MODULES[target.runtime]:
        if importlib.util.find_spec(name) is not None:
            return name
    raise UnavailableError(
        f'{_called(target)} is not installed: pip install "infopt[{target.extra}]"'
    )


def library(target: Target) -> ModuleType:
    """The module that serves ``target``.

    Raises:
        UnavailableError: It is not installed, or does not load.
    """
    name = module_name(target)
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever a missing library of NVIDIA's makes it say
        raise UnavailableError(
            f"{name} does not load ({error}); reinstall it: "
            f'pip install --force-reinstall "infopt[{target.extra}]"'
        ) from None


def installed_version(target: Target) -> str:
    """The version of the library.

    Raises:
        UnavailableError: It is not installed, or does not load.
    """
    return str(library(target).__version__)


def has_gpu() -> bool:
    """Whether there is an NVIDIA GPU here."""
    try:
        cuda.driver()
    except UnavailableError:
        return False
    return True


def gpu(target: Target) -> dict[str, str]:
    """The GPU that a build depends on: ``capability``, ``name`` and ``driver``; empty if none.

    Raises:
        UnavailableError: It depends on one, and there is none.
    """
    if target.selectable:  # it is told the GPU, and looks for none
        return {}
    driver = cuda.driver()
    return {
        "capability": driver.capability(),
        "name": driver.name(),
        "driver": driver.version(),
    }


def unbuildable(target: Target) -> str | None:
    """Why no engine can be built here and what to do; ``None`` if one can."""
    try:
        module_name(target)
        gpu(target)
    except UnavailableError as error:
        return str(error)
    return None


@functools.cache
def unavailable(target: Target) -> str | None:
    """Why no engine can run here and what to do; ``None`` if one can."""
    reason = unbuildable(target)
    if reason is not None:
        return reason
    try:
        capability = cuda.driver().capability()
    except UnavailableError as error:
        return str(error)
    served = target.capabilities or target.selectable
    if served and capability not in served:
        return (
            f"the GPU here has compute capability {capability}, {target.name} is for "
            f"{', '.join(served)}"
        )
    return None


def _called(target: Target) -> str:
    return "TensorRT for RTX" if target.runtime == "tensorrt-rtx" else "TensorRT"
