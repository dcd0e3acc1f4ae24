"""Options of a build, as the user gives them (``--provider-option workspace=4GiB``)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

from infopt.errors import UsageError, nearest

_SIZE = re.compile(r"(\d+)\s*([KMG]i?B)?")
_SOURCES = ("edge_mask_convolutions", "jit_convolutions")
_UNITS: dict[str | None, int] = {
    None: 1,
    **dict(zip(("KB", "MB", "GB"), (10**3, 10**6, 10**9), strict=True)),
    **dict(zip(("KiB", "MiB", "GiB"), (1 << 10, 1 << 20, 1 << 30), strict=True)),
}


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """How to build; each field is an option of that name."""

    workspace: int | None = None
    """Most bytes of memory that a kernel may use to work in, as in ``4GiB``; by default all."""
    optimization_level: int | None = None
    """How long to look for fast kernels, from 0 to 5; by default TensorRT's own level."""
    tf32: bool = False
    """Whether fp32 products may be computed on 11 bits: faster, and no longer fp32."""
    timing_cache: bool = True
    """Whether timings of earlier builds are used, and those of this one kept."""
    version_compatible: bool = False
    """Whether later TensorRT versions are to run the engine as well (``tensorrt`` only)."""
    exclude_lean_runtime: bool = False
    """Whether such an engine does without the runtime in it that lets it run anywhere."""
    hardware_compatible: str | None = None
    """Which other GPUs are to run it as well (``tensorrt`` only): ``ampere``, all from Ampere on,
    or ``same``, all of the same compute capability."""
    refit: bool = False
    """Whether the weights of the finished engine can be replaced."""
    strip_weights: bool = False
    """Whether to leave the weights out of the plan; they are put in when it is loaded."""
    weight_streaming: bool = False
    """Whether weights may stay in the memory of the host, to be fetched as they are used."""
    sparse_weights: bool = False
    """Whether kernels may leave out the zeros of weights of which two in four are."""
    tactic_sources: tuple[str, ...] | None = None
    """Where kernels may come from, names with ``+`` between them, or ``none``; by default
    TensorRT's own choice."""
    max_tactics: int | None = None
    """How many kernels are timed for one layer, at most."""
    timing_iterations: int | None = None
    """How often each is timed."""
    aux_streams: int | None = None
    """How many streams a call may use beside its own; 0 for none."""
    tiling: str | None = None
    """How long to look for a good division of layers into tiles: ``none``, ``fast``, ``moderate``
    or ``full``."""

    @staticmethod
    def parse(given: Mapping[str, str]) -> BuildOptions:
        """Read options.

        Raises:
            UsageError: There is no such option, or it cannot have that value.
        """
        known = [field.name for field in dataclasses.fields(BuildOptions)]
        for name in given:
            if name not in known:
                raise UsageError(
                    f"TensorRT has no option {name!r}{nearest(name, known)}; "
                    f"known: {', '.join(known)}"
                )
        return BuildOptions(**{name: _READ[name](name, text) for name, text in given.items()})

    def check(self, *, rtx: bool, gpu: bool) -> None:
        """Refuse what a build cannot do.

        Args:
            rtx: Whether TensorRT for RTX builds.
            gpu: Whether there is a GPU.

        Raises:
            UsageError: An option is not for this TensorRT, or needs a GPU.
        """
        if rtx and self.version_compatible:
            raise UsageError("TensorRT for RTX builds for its own version only; use tensorrt")
        if self.exclude_lean_runtime and not self.version_compatible:
            raise UsageError("exclude_lean_runtime is for engines with version_compatible=true")
        if rtx and self.hardware_compatible is not None:
            raise UsageError(
                "TensorRT for RTX is told which GPUs to build for, as in tensorrt-rtx:sm86+sm89"
            )
        for name in ("refit", "strip_weights"):
            if getattr(self, name) and not gpu:
                raise UsageError(f"TensorRT builds with {name} only where there is an NVIDIA GPU")

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)


def _flag(name: str, text: str) -> bool:
    values = {"true": True, "false": False, "1": True, "0": False, "on": True, "off": False}
    if text.lower() not in values:
        raise UsageError(f"option {name}={text} is not understood; write {name}=true or =false")
    return values[text.lower()]


def word(*words: str) -> Callable[[str, str], str]:
    """Reads one of ``words``, in whatever case."""

    def read(name: str, text: str) -> str:
        if text.lower() not in words:
            raise UsageError(
                f"option {name}={text} is not understood; it is one of {', '.join(words)}"
            )
        return text.lower()

    return read


def _compatibility(name: str, text: str) -> str | None:
    # What it was before there were two kinds.
    found = {"true": "ampere", "1": "ampere", "on": "ampere"}.get(text.lower(), text)
    if found.lower() in ("false", "0", "off"):
        return None
    return word("ampere", "same")(name, found)


def _sources(name: str, text: str) -> tuple[str, ...]:
    if text.lower() == "none":
        return ()
    words = text.lower().split("+")
    if not set(words) <= set(_SOURCES):
        raise UsageError(
            f"option {name}={text} is not understood; it is none, or names with + between them, "
            f"of {', '.join(_SOURCES)}"
        )
    return tuple(word.upper() for word in words)


def number(least: int, most: int | None = None) -> Callable[[str, str], int]:
    """Reads a number of at least ``least``, and at most ``most`` where there is such a limit."""
    wanted = f"a number of at least {least}" if most is None else f"{least} to {most}"

    def read(name: str, text: str) -> int:
        digits = text.isascii() and text.isdigit()
        if not digits or int(text) < least or (most is not None and int(text) > most):
            raise UsageError(f"option {name}={text} is not understood; write {wanted}")
        return int(text)

    return read


def size(name: str, text: str) -> int:
    """The bytes that ``text`` says, as in ``4GiB``.

    Raises:
        UsageError: It says none.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise UsageError(f"option {name}={text} is not understood; write {name}=4GiB, for example")
    return int(match[1]) * _UNITS[match[2]]


def _level(name: str, text: str) -> int:
    if text not in tuple("012345"):
        raise UsageError(f"option {name}={text} is not understood; write a level from 0 to 5")
    return int(text)


_READ: Mapping[str, Callable[[str, str], Any]] = {
    **{field.name: _flag for field in dataclasses.fields(BuildOptions)},
    "workspace": size,
    "optimization_level": _level,
    "hardware_compatible": _compatibility,
    "tactic_sources": _sources,
    "max_tactics": number(1),
    "timing_iterations": number(1),
    "aux_streams": number(0),
    "tiling": word("none", "fast", "moderate", "full"),
}
