"""TensorRT and TensorRT for RTX: one backend, since they have one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from infopt.backends.base import Backend, Outcome, RunOptions, Session
from infopt.backends.tensorrt import (
    builder,
    complaints,
    cuda,
    layers,
    outcome,
    plan,
    policies,
    runtime,
    settings,
    simulation,
)
from infopt.backends.tensorrt import timings as timings_
from infopt.backends.tensorrt.options import BuildOptions
from infopt.backends.tensorrt.profiles import as_facts, profile
from infopt.backends.tensorrt.session import TensorRtSession
from infopt.engine import PLAN_FILE
from infopt.errors import CompileError, UnavailableError
from infopt.events import Event, Listener
from infopt.evidence.extents import Extents
from infopt.evidence.synthetic import required_inputs
from infopt.ir import files
from infopt.ir.layers import Layers
from infopt.passes.base import Pass
from infopt.passes.cleanup.eliminate_common_subexpressions import EliminateCommonSubexpressions
from infopt.passes.cleanup.eliminate_dead_code import EliminateDeadCode
from infopt.passes.cleanup.eliminate_noops import EliminateNoops
from infopt.passes.cleanup.fold_constants import FoldConstants
from infopt.passes.cleanup.simplify_shapes import SimplifyShapes
from infopt.passes.legalization.plain_attention import PlainAttention
from infopt.passes.legalization.widen_operators import WidenOperators
from infopt.pipeline import Step


class TensorRtBackend(Backend):
    """The targets ``tensorrt``, ``tensorrt-rtx`` and ``tensorrt-rtx:sm86+sm89``.

    The payload is the legalized ONNX file and, built from it, a plan with facts about it. The file
    is what is simulated where no GPU is, and what the engine can be built from again.
    """

    bounded: ClassVar[bool] = True

    def precision(self, name: str, *, data: bool = False) -> tuple[Step, ...]:
        return policies.precision(self.target, name, data=data)

    def legalization(self) -> tuple[Pass, ...]:
        # The parser knows every operator that raising makes, attention with limits. Of what it
        # lacks, ONNX defines next to nothing by what it knows (docs/design/0011-tensorrt.md).
        return (
            PlainAttention(),
            # It has these in float32 and float16, and none of them in bfloat16.
            WidenOperators(),
            # Definitions compute shapes of their own, and the same constants again and again.
            SimplifyShapes(),
            FoldConstants(),
            EliminateNoops(),
            EliminateCommonSubexpressions(),
            EliminateDeadCode(),
        )

    def check_options(self, options: RunOptions) -> None:
        wishes, _ = settings.parse(options.provider_options)
        wishes.check(rtx=bool(self.target.selectable), gpu=runtime.has_gpu())

    def compile(self, model: ir.Model, directory: Path) -> None:
        files.write_onnx(model, directory)

    def build(
        self,
        directory: Path,
        profiles: Sequence[Extents],
        options: RunOptions,
        scratch: Path,
        tell: Listener,
    ) -> Mapping[str, Any]:
        wishes, _ = settings.parse(options.provider_options)
        model = files.read_onnx(directory / files.MODEL_FILE)
        gpu = runtime.gpu(self.target)
        request = builder.Request(
            module=runtime.module_name(self.target),
            model=directory / files.MODEL_FILE,
            plan=directory / PLAN_FILE,
            capabilities=self.target.capabilities,
            profiles=tuple(profile(required_inputs(model), extents) for extents in profiles),
            options=wishes,
            timings=self._timings(wishes, gpu),
        )
        name = self.target.name
        tell(Event("build", name))
        try:
            built = builder.build(
                request,
                scratch,
                lambda phase, done, total: tell(Event("build", f"{name}: {phase}", done, total)),
            )
        except builder.RefusedError as refused:
            said = complaints.describe(refused.complaints, Layers(model))
            raise CompileError(said) from None
        facts = {
            "runtime": self.target.runtime,
            "version": built.version,
            "capabilities": self._capabilities(wishes, gpu),
            "gpu": gpu,
            "profiles": as_facts(request.profiles),
            "options": wishes.as_dict(),
            "timing_cache": built.timing_cache,
            "network": built.network,
            "warnings": built.warnings,
            "seconds": round(built.seconds, 3),
        }
        return plan.write_facts(directory, facts)

    def _capabilities(self, wishes: BuildOptions, gpu: Mapping[str, str]) -> tuple[str, ...]:
        """The only GPUs on which the plan runs; empty where it is for many."""
        if gpu and wishes.hardware_compatible != "ampere":
            return (gpu["capability"],)
        return self.target.capabilities

    def _timings(self, wishes: BuildOptions, gpu: Mapping[str, str]) -> Path | None:
        # TensorRT for RTX times nothing when it builds; asked for timings, it looks for a GPU.
        if not wishes.timing_cache or not gpu:
            return None
        version = runtime.installed_version(self.target)
        return timings_.path_of(
            self.target.name, version, *gpu.values(), str(sorted(wishes.as_dict().items()))
        )

    def load(self, directory: Path, options: RunOptions) -> TensorRtSession:
        facts = plan.read_facts(directory)
        plan.check_version(facts, self.target, runtime.installed_version(self.target))
        driver = cuda.driver()
        plan.check_capability(facts, driver.capability())
        _, how = settings.parse(options.provider_options)
        return TensorRtSession(
            runtime.library(self.target),
            driver,
            plan.read_plan(directory, facts),
            directory / files.MODEL_FILE if facts["options"]["strip_weights"] else None,
            how,
        )

    def simulate(self, directory: Path, options: RunOptions) -> Session:
        return simulation.simulate(directory, options)

    def outcome(self, directory: Path) -> Outcome | None:
        if self.unavailable() is not None:
            return None  # only a GPU opens a plan
        model = files.read_onnx(directory / files.MODEL_FILE)
        try:
            found = layers.read(self.load(directory, RunOptions()).inspect())
        except CompileError as error:  # the engine is none the worse for it
            return Outcome({}, 0, (), notes=(str(error),))
        return outcome.compare(outcome.asked(model), found)

    def open_model(self, model_file: Path, options: RunOptions) -> Session:
        raise UnavailableError(
            f"{self.target.name} runs engines, no ONNX files: it has to know sizes and to build "
            "first; make an engine of it with infopt optimize --pipeline ''"
        )

    def reference(self, model_file: Path, options: RunOptions) -> Session:
        return simulation.run_as_it_is(model_file, options)

    def unavailable(self) -> str | None:
        return runtime.unavailable(self.target)

    def unbuildable(self) -> str | None:
        return runtime.unbuildable(self.target)
