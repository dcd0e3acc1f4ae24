"""infopt compiles a trained model into the fastest engine that still gives the right answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infopt._version import __version__

if TYPE_CHECKING:
    from infopt.api import benchmark as benchmark
    from infopt.api import compare as compare
    from infopt.api import load as load
    from infopt.api import optimize as optimize

_API = ("benchmark", "compare", "load", "optimize")

__all__ = ["__version__", *_API]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `import infopt` stays instant.
    if name in _API:
        from infopt import api

        return getattr(api, name)
    raise AttributeError(f"module 'infopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
