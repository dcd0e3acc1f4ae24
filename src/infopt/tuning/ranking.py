"""Which nodes do the most damage when they alone are quantized."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt import record
from infopt.backends.base import Backend, RunOptions, Session
from infopt.errors import Interrupted, ModelError, UsageError
from infopt.events import Event, Listener, ignore
from infopt.evidence.equivalence import Sample
from infopt.ir import queries
from infopt.ir.cost import flops_of_nodes
from infopt.tuning.metric import Metric, Outputs
from infopt.tuning.noise import Noise
from infopt.tuning.plan import Plan, copy_of
from infopt.tuning.segments import Parts
from infopt.tuning.switches import switched

_ROOM = 256 << 20
"""Bytes of outputs that are held for a metric; with more nodes than that, samples run again."""


@dataclasses.dataclass(frozen=True)
class Damage:
    """What one node does to the outputs when it alone is quantized."""

    node: str
    operator: str
    sqnr_db: float
    """Signal to noise of the worst output, over all samples; infinite where nothing changes."""
    max_relative: float
    """The largest ``max|a-b| / max|b|`` of an output of a sample."""
    drop: float | None
    """How much of the metric is lost; ``None`` without one."""
    weights: float
    """Its share of the elements of all constants."""
    flops: float | None
    """Its share of the arithmetic; ``None`` where shapes do not tell."""


@dataclasses.dataclass(frozen=True)
class Ranking:
    """All nodes that are quantized, those that do the most damage first."""

    nodes: tuple[Damage, ...]
    together: Damage
    """All of them at once."""
    samples: tuple[str, ...]
    metric: str | None = None
    original: float | None = None
    """The metric in float."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; infinite values become strings there."""
        return dict(record.plain(dataclasses.asdict(self)))


def rank(
    plan: Plan,
    model: ir.Model,
    backend: Backend,
    samples: Sequence[Sample],
    scratch: Path,
    *,
    metric: Metric | None = None,
    options: RunOptions | None = None,
    tell: Listener = ignore,
) -> Ranking:
    """Measure what each node does alone, and order them by it.

    One model is compiled, in which each node has a switch, and cut into parts; a part runs again
    only where something in front of it, or in it, has changed, and without switches if it can.

    Args:
        plan: How the model is to be quantized.
        model: The model, prepared by the plan.
        backend: Whose runtime computes it.
        samples: The inputs.
        scratch: Room for the compiled parts.
        metric: What to judge outputs by, instead of their noise.
        options: How to run.
        tell: Told of every step.

    Raises:
        UsageError: Nothing is quantized, no output can be judged, or the metric fails.
        Interrupted: The user stopped it.
    """
    options = options or RunOptions()
    whole = copy_of(model)
    names = plan.quantize(whole)
    if not names:
        raise UsageError(
            "no node of this model can be quantized so; -v of `infopt optimize` says why not"
        )
    with tempfile.TemporaryDirectory(dir=scratch) as room:
        tell(Event("compile", f"{len(names):,} nodes, each with a switch"))
        board = switched(model, (plan.alone(model, name) for name in names))
        parts, together = Path(room) / "parts", Path(room) / "together"
        parts.mkdir()
        together.mkdir()
        backend.compile(whole, together)
        work = _Work(
            Parts(board, model, backend, parts, options),
            backend.simulate(together, options),
            samples,
            len(names),
            metric,
            tell,
        )
        del whole, board
        work.go()
    shares = _shares(model)
    nodes = {node.name: node for node in queries.nodes(model)}
    found = [
        work.damage(number, name, nodes[name].op_type, *shares(name))
        for number, name in enumerate(names, start=1)
    ]
    found.sort(key=lambda it: (-(it.drop or 0.0), it.sqnr_db))
    return Ranking(
        nodes=tuple(found),
        together=work.damage(0, "all", "", 1.0, None),
        samples=tuple(f"{sample.origin}: {sample.shapes()}" for sample in samples),
        metric=None if metric is None else metric.name,
        original=work.original,
    )


class _Work:
    """All the runs of one ranking; number 0 stands for all nodes together."""

    def __init__(
        self,
        parts: Parts,
        together: Session,
        samples: Sequence[Sample],
        count: int,
        metric: Metric | None,
        tell: Listener,
    ) -> None:
        self._parts = parts
        self._together = together
        self._samples = samples
        self._numbers = range(count + 1)
        self._metric = metric
        self._tell = tell
        self._noise = {number: Noise() for number in self._numbers}
        self._scores: dict[int, float] = {}
        self._done = 0
        self.original: float | None = None

    def go(self) -> None:
        """Make them."""
        try:
            for group in self._groups():
                self._run(group)
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted after {self._done:,} of {self._total:,} runs of the ranking; "
                "nothing half-written was left behind"
            ) from None

    @property
    def _total(self) -> int:
        return len(self._numbers) * len(self._samples)

    def _groups(self) -> Iterator[Sequence[int]]:
        """Which numbers to run at a time: all, or as many as a metric's outputs fit into memory."""
        if self._metric is None:
            yield self._numbers
            return
        outputs = self._parts.start(self._samples[0].inputs)
        size = sum(np.asarray(array).nbytes for array in outputs.values()) * len(self._samples)
        step = max(1, _ROOM // max(size, 1))
        for start in range(0, len(self._numbers), step):
            yield self._numbers[start : start + step]

    def _run(self, numbers: Sequence[int]) -> None:
        held: dict[int | None, list[Outputs]] = {number: [] for number in (None, *numbers)}
        for position, sample in enumerate(self._samples, start=1):
            expected = self._parts.start(sample.inputs)
            if self._metric is not None:
                held[None].append(expected)
            for number in numbers:
                self._done += 1
                what = f"sample {position:,} of {len(self._samples):,}"
                self._tell(Event("rank", what, self._done, self._total))
                outputs = self._parts.run(number) if number else self._together(sample.inputs)
                self._noise[number].add(outputs, expected)
                if self._metric is not None:
                    held[number].append(outputs)
        if self._metric is not None:
            inputs = [sample.inputs for sample in self._samples]
            self.original = self._metric(held.pop(None), inputs)
            for number in numbers:
                self._scores[number] = self._metric(held[number], inputs)

    def damage(
        self, number: int, node: str, operator: str, weights: float, flops: float | None
    ) -> Damage:
        """What was found of a number.

        Raises:
            UsageError: No output is a floating-point number, and there is no metric.
        """
        noise = self._noise[number]
        if self._metric is None and not noise.judged:
            raise UsageError(
                "no output of the model is a floating-point number, so that there is no noise to "
                "rank by; give --metric"
            )
        lost = None if self.original is None else self.original - self._scores[number]
        return Damage(node, operator, noise.sqnr_db, noise.max_relative, lost, weights, flops)


def _shares(model: ir.Model) -> Callable[[str], tuple[float, float | None]]:
    """Name of a node → its share of the elements of constants, and of the arithmetic."""
    sizes: dict[str, int] = {}
    constants: dict[ir.Value, int] = {}
    for node in queries.nodes(model):
        own = {}
        for value in node.inputs:
            tensor = queries.constant_tensor(value)
            if value is not None and tensor is not None:
                own[value] = tensor.size
        sizes[node.name or ""] = sum(own.values())
        constants.update(own)
    try:
        work: Mapping[str, int] = flops_of_nodes(model)
    except ModelError:
        work = {}
    elements, flops = sum(constants.values()), sum(work.values())

    def shares(name: str) -> tuple[float, float | None]:
        arithmetic = work[name] / flops if flops and name in work else None
        return (sizes[name] / elements if elements else 0.0), arithmetic

    return shares
