"""infopt compiles a trained model into the fastest engine that still gives the right answers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from infopt._version import __version__

if TYPE_CHECKING:
    from infopt.api import benchmark as benchmark
    from infopt.api import load as load
    from infopt.api import optimize as optimize
    from infopt.api import sign as sign
    from infopt.backends.base import Session as Session
    from infopt.bisecting import bisect as bisect
    from infopt.calibrating import calibrate as calibrate
    from infopt.calibrating import merge_calibrations as merge_calibrations
    from infopt.comparing import compare as compare
    from infopt.comparing import compare_layers as compare_layers
    from infopt.engine import Engine as Engine
    from infopt.errors import InfoptError as InfoptError
    from infopt.gating import check as check
    from infopt.gating import take_baseline as take_baseline
    from infopt.profiling import profile as profile
    from infopt.ranking import sensitivity as sensitivity

_HOMES = {
    "Engine": "infopt.engine",
    "InfoptError": "infopt.errors",
    "Session": "infopt.backends.base",
    "benchmark": "infopt.api",
    "bisect": "infopt.bisecting",
    "calibrate": "infopt.calibrating",
    "check": "infopt.gating",
    "compare": "infopt.comparing",
    "compare_layers": "infopt.comparing",
    "load": "infopt.api",
    "merge_calibrations": "infopt.calibrating",
    "optimize": "infopt.api",
    "profile": "infopt.profiling",
    "sensitivity": "infopt.ranking",
    "sign": "infopt.api",
    "take_baseline": "infopt.gating",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    # Loaded on first use: `import infopt` stays instant.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'infopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
