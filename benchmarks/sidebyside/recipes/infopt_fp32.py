"""infopt at fp32, as in the README: ``infopt.optimize``, then ``infopt.load``.

README.md
"""

from __future__ import annotations

from typing import Any

import infopt
from benchmarks.sidebyside.job import Job, Run


def optimize(job: Job) -> None:
    build(job, precision="fp32")


def build(job: Job, **options: Any) -> None:
    """An engine of the model; what it is verified on counts as time to optimize, too."""
    infopt.optimize(
        job.model, job.directory / "engine", threads=job.threads, measure=False, **options
    )


def load(job: Job) -> Run:
    session = infopt.load(job.directory / "engine", threads=job.threads)
    return lambda feeds: list(session(feeds).values())
