"""``torch.compile`` with its defaults; what it compiled is kept in its cache.

https://docs.pytorch.org/tutorials/intermediate/torch_compile_tutorial.html
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.sidebyside.job import Job, Run, read
from benchmarks.sidebyside.recipes.torch_eager import module, prepare, runner, weights

__all__ = ["load", "optimize", "prepare"]


def optimize(job: Job) -> int:
    return compile_ahead(module(job), job)


def load(job: Job) -> Run:
    return compiled(module(job), job)


def compile_ahead(model: Any, job: Job, around: Callable[[], Any] = contextlib.nullcontext) -> int:
    """Compile for the shapes that will be run, into the cache; bytes of weights and code."""
    run = compiled(model, job, around)
    for shape in job.shapes:
        run(read(shape))
    code = sum(file.stat().st_size for file in job.directory.rglob("*") if file.is_file())
    return weights(model) + code


def compiled(model: Any, job: Job, around: Callable[[], Any] = contextlib.nullcontext) -> Run:
    """The compiled module as a function, from the cache if it is there."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(job.directory.resolve())
    return runner(torch.compile(model), job, around)
