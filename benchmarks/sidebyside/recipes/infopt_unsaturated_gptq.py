"""infopt's int8 by GPTQ for x86 without VNNI (``--scheme unsaturated=true,algorithm=gptq``).

README.md
"""

from __future__ import annotations

from benchmarks.sidebyside.job import Job
from benchmarks.sidebyside.recipes.infopt_fp32 import build, load

__all__ = ["load", "optimize"]

SCHEME = {"unsaturated": "true", "algorithm": "gptq"}


def optimize(job: Job) -> None:
    build(job, precision="int8", data=list(job.samples()), scheme=SCHEME)
