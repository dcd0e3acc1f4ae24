"""ONNX Runtime on the processor and on NVIDIA GPUs."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import onnx_ir as ir

from infopt.backends.base import Backend, Outcome, RunOptions, Session
from infopt.backends.onnxruntime import choices, emulation, outcome, policies, providers, runtime
from infopt.backends.onnxruntime.opsets import at_runnable_opset
from infopt.backends.onnxruntime.session import OrtSession
from infopt.errors import UnavailableError
from infopt.ir import files
from infopt.passes.base import Pass
from infopt.pipeline import Step

_CPU = "CPUExecutionProvider"


class OnnxRuntimeBackend(Backend):
    """The targets ``onnxruntime:cpu`` and ``onnxruntime:cuda``.

    The payload is an ONNX file with its weights beside it. It is not ONNX Runtime's own
    optimized dump: that one is bound to a processor and a version, and at load ONNX Runtime
    optimizes for the machine it finds.
    """

    def precision(self, name: str, *, data: bool = False) -> tuple[Step, ...]:
        return policies.precision(self.target, name, data=data)

    def legalization(self) -> tuple[Pass, ...]:
        return choices.legalization(self.target.provider)

    def check_options(self, options: RunOptions) -> None:
        providers.Providers.chosen(self.target.provider, options.provider_options)

    def compile(self, model: ir.Model, directory: Path) -> None:
        files.write_onnx(at_runnable_opset(model, self.target), directory)

    def load(self, directory: Path, options: RunOptions) -> Session:
        return self._open(directory / files.MODEL_FILE, options, as_engine=True)

    def outcome(self, directory: Path) -> Outcome | None:
        if self.target.provider != _CPU or self.unavailable() is not None:
            return None
        file = directory / files.MODEL_FILE
        return outcome.outcome(file, choices.disabled_optimizers(_CPU))

    def open_model(self, model_file: Path, options: RunOptions) -> Session:
        return self._open(model_file, options, as_engine=False)

    def _open(self, model_file: Path, options: RunOptions, *, as_engine: bool) -> Session:
        reason = providers.unavailable(self.target, options.provider_options)
        if reason is not None:
            raise UnavailableError(reason)
        return OrtSession(
            model_file,
            self.target.provider,
            options,
            hold_names=as_engine,
            without=choices.disabled_optimizers(self.target.provider) if as_engine else (),
        )

    def simulate(self, directory: Path, options: RunOptions) -> Session:
        if self.target.provider != _CPU:
            options = dataclasses.replace(options, provider_options={})
            model = files.read_onnx(directory / files.MODEL_FILE)
            if emulation.computes_in_halves(model):
                return _emulate(model, options)
        without = choices.disabled_optimizers(self.target.provider)
        return OrtSession(directory / files.MODEL_FILE, _CPU, options, without=without)

    def reference(self, model_file: Path, options: RunOptions) -> Session:
        options = dataclasses.replace(options, optimize=False, provider_options={})
        return OrtSession(model_file, _CPU, options)

    def unavailable(self) -> str | None:
        return runtime.unavailable(self.target)


def _emulate(model: ir.Model, options: RunOptions) -> Session:
    """A session on the processor that rounds as a device does."""
    options = dataclasses.replace(options, optimize=False)  # which might drop a rounding
    with tempfile.TemporaryDirectory(prefix="infopt-") as room:
        files.write_onnx(emulation.emulated(model), Path(room))
        return OrtSession(Path(room) / files.MODEL_FILE, _CPU, options)
