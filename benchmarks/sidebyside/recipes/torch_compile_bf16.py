"""``torch.compile`` under automatic mixed precision with bf16.

https://docs.pytorch.org/docs/stable/amp.html
"""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.sidebyside.job import Job, Run
from benchmarks.sidebyside.recipes.torch_compile import compile_ahead, compiled
from benchmarks.sidebyside.recipes.torch_eager import module, prepare

__all__ = ["load", "optimize", "prepare"]


def _bf16() -> Any:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def optimize(job: Job) -> int:
    return compile_ahead(module(job), job, _bf16)


def load(job: Job) -> Run:
    return compiled(module(job), job, _bf16)
