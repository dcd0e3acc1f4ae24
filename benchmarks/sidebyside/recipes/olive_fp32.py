"""``olive optimize`` with its defaults for a processor.

https://microsoft.github.io/Olive/how-to/cli/cli-optimize.html
"""

from __future__ import annotations

import os

from olive.cli.api import optimize as olive_optimize

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.ort import optimized as load

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    os.chdir(job.directory.parent)  # where it leaves its cache
    olive_optimize(
        str(job.model),
        device="cpu",
        provider="CPUExecutionProvider",
        precision="fp32",
        output_path=str(job.directory),
        disable_telemetry=True,
    )
