"""A pipeline taken apart: what stands before it lowers precision, and what lowers it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import onnx_ir as ir

from infopt.errors import UsageError
from infopt.events import Event, Listener, ignore
from infopt.ir import queries
from infopt.passes.base import Pass, Preserves
from infopt.passes.keeping import Keeping
from infopt.passes.observed import attach, calibration_of
from infopt.passes.precision._convert import Convert
from infopt.passes.rewriting import Rewrite
from infopt.pipeline import Observer, Pipeline, Step


@dataclasses.dataclass(frozen=True)
class Plan:
    """A pipeline, and where in it integers come in, node by node."""

    pipeline: Pipeline
    start: int
    """The first step that writes integers."""
    stop: int
    """One past the last; what follows is legalization."""

    def prepare(self, model: ir.Model, observe: Observer | None, tell: Listener = ignore) -> None:
        """Run everything in front, in place: ``model`` is then what will be quantized."""
        self.pipeline.run(
            model,
            steps=slice(0, self.start),
            progress=lambda a_pass: tell(Event("pass", str(a_pass))),
            observe=observe,
        )

    def quantize(self, model: ir.Model) -> tuple[str, ...]:
        """Quantize a prepared model, in place.

        Returns:
            The names of the nodes that were quantized, in order.
        """
        trace = self.pipeline.run(model, steps=slice(self.start, self.stop))
        steps = self.pipeline.steps[self.start : self.stop]
        names = (
            change.node
            for step, run in zip(steps, trace, strict=True)
            if isinstance(step, Keeping)
            for change in run.changes
            if change.rule == step.name  # other rules are about what several nodes read
        )
        return tuple(dict.fromkeys(names))

    def alone(self, model: ir.Model, name: str) -> ir.Model:
        """A copy of a prepared model in which node ``name`` alone is quantized."""
        copy = copy_of(model)
        names = [node.name or "" for node in queries.nodes(model)]
        steps = self.pipeline.steps[self.start : self.stop]
        Pipeline(tuple(_alone(step, name, names) for step in steps)).run(copy)
        return copy

    def keeping(self, names: Iterable[str]) -> Plan:
        """The plan with these nodes left in float."""
        names = tuple(names)
        steps = (
            step.keeping(names) if isinstance(step, Keeping) else step
            for step in self.pipeline.steps
        )
        return dataclasses.replace(self, pipeline=Pipeline(tuple(steps)))

    def finish(self, model: ir.Model) -> None:
        """Run all the rest on a prepared model, in place."""
        self.pipeline.run(model, steps=slice(self.start, None))


def plan_of(pipeline: Pipeline) -> Plan:
    """Take a pipeline apart.

    Raises:
        UsageError: It does not quantize, or not in one piece.
    """
    places = [index for index, step in enumerate(pipeline.steps) if isinstance(step, Keeping)]
    if not places:
        raise UsageError(
            "nothing is quantized, so that there is nothing to rank or to keep in float; "
            "choose the precision int8 or int4"
        )
    if any(isinstance(step, Convert) for step in pipeline.steps):
        raise UsageError(
            "fp16 and bf16 leave in float32 what is out of range; "
            "ranking nodes, and keeping some in float, is for int8 and int4"
        )
    start, stop = places[0], places[-1] + 1
    while stop < len(pipeline.steps) and _corrects(pipeline.steps[stop]):
        stop += 1
    for step in pipeline.steps[start:stop]:
        if not isinstance(step, Pass):
            raise UsageError(
                f"{step} stands between passes that quantize; put it in front of the first, "
                "or rank with one of them at a time"
            )
    return Plan(pipeline, start, stop)


def copy_of(model: ir.Model) -> ir.Model:
    """A copy that knows what was observed; tensors are shared."""
    copy = model.clone()
    attach(copy, calibration_of(model))
    return copy


def _corrects(step: Step) -> bool:
    """Whether ``step`` belongs to the quantization in front of it."""
    coarse = isinstance(step, Pass) and step.preserves is Preserves.APPROXIMATE
    return coarse and not isinstance(step, Rewrite)


def _alone(step: Step, name: str, names: list[str]) -> Step:
    return step.alone(name, names) if isinstance(step, Keeping) else step
