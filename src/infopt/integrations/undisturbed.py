"""A training that goes on afterwards as if nothing had happened."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


@contextlib.contextmanager
def undisturbed(module: torch.nn.Module) -> Iterator[None]:
    """Give back all that a training would miss: modes, devices, random states.

    Every submodule is in train or eval mode as before, parameters and buffers are on their
    devices, and the random numbers of Python, numpy and torch (on the processor and on every GPU
    of this process) go on where they stopped. Inside, nothing is recorded for gradients, and
    neither inference mode nor autocast is on, whoever asked for it outside: both would become
    part of an exported graph.
    """
    import torch

    modes = [(one, one.training) for one in module.modules()]
    tensors = [*module.parameters(), *module.buffers()]
    devices = [tensor.device for tensor in tensors]
    kinds = {"cpu", *(device.type for device in devices)} - {"meta"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(_random_states())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        for kind in sorted(kinds):
            stack.enter_context(torch.autocast(kind, enabled=False))
        try:
            yield
        finally:
            for one, training in modes:
                one.training = training
            for tensor, device in zip(tensors, devices, strict=True):
                if tensor.device != device:
                    tensor.data = tensor.data.to(device)


@contextlib.contextmanager
def _random_states() -> Iterator[None]:
    import torch

    # A process that has used no GPU so far is not made to.
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    python, legacy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)
