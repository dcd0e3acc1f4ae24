"""infopt's int8 for x86 processors without VNNI (``--scheme unsaturated=true``).

README.md
"""

from __future__ import annotations

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.infopt_fp32 import build, load

__all__ = ["load", "optimize"]


def optimize(job: Job) -> None:
    build(job, precision="int8", data=list(job.samples()), scheme={"unsaturated": "true"})
