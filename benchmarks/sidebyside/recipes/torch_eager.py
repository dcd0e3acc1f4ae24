"""PyTorch as it is, under inference mode.

https://docs.pytorch.org/docs/stable/generated/torch.autograd.grad_mode.inference_mode.html
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import torch

from benchmarks import subjects
from benchmarks.sidebyside.job import Feeds, Job, Run


def prepare(job: Job) -> None:
    """Make the module, which a user of PyTorch has: it is no part of optimizing."""
    module(job)


def optimize(job: Job) -> int:
    return weights(module(job))


def load(job: Job) -> Run:
    return runner(module(job), job)


def module(job: Job) -> Any:
    """The module that the ONNX file was exported from, always the same one."""
    return _module(job.subject)


@functools.cache
def _module(subject: str) -> Any:
    make = subjects.find(subject).module
    if make is None:
        raise ValueError("the model comes as an ONNX file: there is no torch module")
    return make().eval()


def weights(model: Any) -> int:
    """Bytes of parameters and buffers, those that stand for several tensors taken apart."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(_bytes(tensor) for tensor in tensors)


def _bytes(tensor: Any) -> int:
    if hasattr(tensor, "__tensor_flatten__"):
        return sum(_bytes(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0])
    return int(tensor.numel() * tensor.element_size())


def runner(model: Any, job: Job, around: Callable[[], Any] = contextlib.nullcontext) -> Run:
    """A function of inputs by name, run under ``around()``."""
    torch.set_num_threads(job.threads)

    def run(feeds: Feeds) -> list[Any]:
        with torch.inference_mode(), around():
            found = model(*(torch.from_numpy(array) for array in feeds.values()))
        outputs = found if isinstance(found, tuple | list) else [found]
        return [output.float().numpy() for output in outputs]

    return run
