"""Results as a run would write them."""

from typing import Any

TAKEN: dict[str, Any] = {
    "date": "2026-11-24",
    "hardware": {"processor": "A processor", "cores": 2, "system": "Linux", "saturates": True},
}


def peer(error: float = 1e-6, failed: str = "", **speeds: float) -> dict[str, Any]:
    """One peer: its speed by cell."""
    cells = {
        name: {
            "samples": 9,
            "median": 0.01 / value,
            "p90": 0.02,
            "p99": 0.03,
            "speed": {"value": value, "low": value - 0.01, "high": value + 0.01},
        }
        for name, value in speeds.items()
    }
    return {
        "optimize_seconds": 1.25,
        "optimize_peak_rss": 300_000_000,
        "bytes": 90_000_000,
        "error": error,
        "metric": 0.5,
        "run_peak_rss": 200_000_000,
        "failed": {"": failed} if failed else {},
        "cells": cells,
    }


def model(name: str, metric: str = "", **peers: dict[str, Any]) -> dict[str, Any]:
    """A model with the cells a (batch 1) and b (batch 8); ``_`` in names stands for a space."""
    return {
        "model": name,
        "metric": metric,
        "bytes": 91_000_000,
        "cells": [
            {"name": "a", "batch": 1, "size": "64 tokens", "noise": 0.01},
            {"name": "b", "batch": 8, "size": "64 tokens", "noise": 0.02},
        ],
        "peers": {key.replace("__", ".").replace("_", " "): value for key, value in peers.items()},
        **TAKEN,
    }


def results(*models: dict[str, Any]) -> dict[str, Any]:
    """All models of a run."""
    names = [name for one in models for name in one.get("peers", ())]
    return {"threads": 2, "peers": list(dict.fromkeys(names)), "models": list(models)}
