"""What a payload says, computed on this machine's processor: no GPU is needed to see it wrong."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

from infopt.backends.base import RunOptions, Session
from infopt.backends.onnxruntime import emulation
from infopt.backends.onnxruntime.session import OrtSession
from infopt.ir import files

_CPU = "CPUExecutionProvider"


def run_as_it_is(model_file: Path, options: RunOptions) -> Session:
    """A session on an ONNX file with nothing in it changed."""
    return OrtSession(model_file, _CPU, _plain(options))


def simulate(directory: Path, options: RunOptions) -> Session:
    """A session on the ONNX file that a plan is built from, optimizations off.

    16-bit floating point is rounded where a GPU would round it.
    """
    file = directory / files.MODEL_FILE
    model = files.read_onnx(file)
    if not emulation.computes_in_halves(model):
        return OrtSession(file, _CPU, _plain(options), hold_names=True)
    with tempfile.TemporaryDirectory(prefix="infopt-") as room:
        files.write_onnx(emulation.emulated(model), Path(room))
        return OrtSession(Path(room) / files.MODEL_FILE, _CPU, _plain(options), hold_names=True)


def _plain(options: RunOptions) -> RunOptions:
    return dataclasses.replace(options, optimize=False, provider_options={})
