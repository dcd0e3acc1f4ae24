"""Options of a run, which stand among those of the build (``--provider-option contexts=4``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from infopt.backends.tensorrt.options import BuildOptions, number, word
from infopt.backends.tensorrt.options import size as size_of
from infopt.errors import UsageError, nearest

AUTOMATIC = "auto"
_MOST = 64
_GRAPHS = (AUTOMATIC, "on", "off")
_SPECIALIZATION = ("lazy", "eager", "none")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a session runs; each field is an option of that name."""

    contexts: int = 1
    """How many calls may run at a time; each takes memory for all intermediate results."""
    cuda_graphs: str = AUTOMATIC
    """``auto``: where every shape is fixed, a call is captured once and then launched as a whole.
    ``on``: for every shape that comes, until ``graph_cache`` is full; ``off``: never."""
    graph_cache: int = 8
    """For how many shapes a context keeps a captured call; the one not used for longest goes."""
    weight_streaming_budget: int | str | None = None
    """Bytes of the weights that may lie on the GPU, as in ``2GiB``, or ``auto``; the others come as
    they are needed. By default all lie there."""
    specialization: str | None = None
    """When TensorRT for RTX compiles kernels for a new shape: ``lazy`` (its default; others compute
    meanwhile), ``eager`` (before the first call returns) or ``none``."""


def parse(given: Mapping[str, str]) -> tuple[BuildOptions, Settings]:
    """Read options of both kinds.

    Raises:
        UsageError: There is no such option, or it cannot have that value.
    """
    building = [field.name for field in dataclasses.fields(BuildOptions)]
    known = [*building, *_READ]
    for name in given:
        if name not in known:
            raise UsageError(
                f"TensorRT has no option {name!r}{nearest(name, known)}; known: {', '.join(known)}"
            )
    options = BuildOptions.parse({n: text for n, text in given.items() if n in building})
    read = {n: _READ[n](n, text) for n, text in given.items() if n in _READ}
    return options, Settings(**read)


def _budget(name: str, text: str) -> int | str:
    # Unlike other sizes it may be 0: all weights come as they are needed.
    return text if text == AUTOMATIC else 0 if text == "0" else size_of(name, text)


_READ: Mapping[str, Callable[[str, str], Any]] = {
    "contexts": number(1, _MOST),
    "cuda_graphs": word(*_GRAPHS),
    "graph_cache": number(1, _MOST),
    "weight_streaming_budget": _budget,
    "specialization": word(*_SPECIALIZATION),
}
