"""How many of the worst nodes have to stay in float, so that an engine keeps within limits."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infopt.backends.base import Backend, RunOptions
from infopt.errors import UsageError, VerificationError
from infopt.events import Event, Listener, ignore
from infopt.evidence.bisect import first_bad
from infopt.evidence.equivalence import Budget, Inputs, Runner, compare
from infopt.pipeline import Observer, Pipeline
from infopt.tuning.limits import Limits
from infopt.tuning.metric import Outputs
from infopt.tuning.plan import copy_of, plan_of
from infopt.tuning.ranking import Damage, rank
from infopt.witness import Witness

_ROOM = 256 << 20
"""Bytes of the original's outputs that are remembered."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """An engine that was built and compared, with so many nodes kept in float."""

    kept: int
    holds: bool
    max_relative: float
    sqnr_db: float
    drop: float | None

    def __str__(self) -> str:
        """What was found, in words."""
        lost = "" if self.drop is None else f" and a loss of {self.drop:.3g}"
        return f"a relative error of {self.max_relative:.2g}, {self.sqnr_db:.1f} dB{lost}"


@dataclasses.dataclass(frozen=True)
class Mixed:
    """What was found: the nodes that stay in float, and how."""

    limits: Limits
    nodes: int
    """How many nodes would be quantized."""
    kept: tuple[Damage, ...]
    trials: tuple[Trial, ...]
    """Every engine that was built, in order."""
    holds: bool

    def as_dict(self) -> dict[str, Any]:
        """For manifests and JSON; infinite values become strings there."""
        return {
            "limits": self.limits.as_dict(),
            "holds": self.holds,
            "nodes": self.nodes,
            "kept": [dataclasses.asdict(damage) for damage in self.kept],
            "evaluations": len(self.trials),
            "trials": [dataclasses.asdict(trial) for trial in self.trials],
        }


def advice(pipeline: Pipeline, allowed: Budget) -> str:
    """What to do where too much was lost; nothing where no nodes can be kept in float."""
    with contextlib.suppress(UsageError):
        plan_of(pipeline)
        exact = not math.isfinite(allowed.least_sqnr)
        bound = f"{allowed.tolerance:g}" if exact else f"{allowed.least_sqnr:g}dB"
        return f"keep the nodes that do the most damage in float with --max-error {bound}, "
    return ""


def keep_worst(
    pipeline: Pipeline,
    witness: Witness,
    backend: Backend,
    scratch: Path,
    limits: Limits,
    *,
    observe: Observer | None,
    options: RunOptions | None = None,
    force: bool = False,
    tell: Listener = ignore,
) -> tuple[Pipeline, Mixed]:
    """Keep the fewest of the worst nodes in float with which an engine holds ``limits``.

    The nodes are ranked by the damage that each does alone, and the ranking is bisected. Errors
    need not fall with every node that is kept: what is returned was itself built and compared.

    Args:
        pipeline: What quantizes the model.
        witness: Knows what is right, and the samples.
        backend: Builds the engines.
        scratch: Room for them.
        limits: What has to hold.
        observe: Knows what was observed where the pipeline calibrates.
        options: How to run.
        force: Go on even if nothing holds them: with everything in float.
        tell: Told of every step.

    Returns:
        The pipeline that keeps these nodes, and what was found.

    Raises:
        UsageError: The pipeline quantizes nothing, or the metric fails.
        VerificationError: Not even with all nodes in float does it hold.
    """
    plan = plan_of(pipeline)
    model = witness.model()
    plan.prepare(model, observe, tell)
    whole = copy_of(model)
    names: Sequence[str] = plan.quantize(whole)
    del whole
    if not names:
        raise UsageError(
            "no node of this model is quantized, so that none can be kept in float; "
            "-v of `infopt optimize`, without --max-error and --max-drop, says why not"
        )
    judge = _Judge(witness, limits)
    trials: list[Trial] = []

    def holds(kept: int) -> bool:
        tell(Event("keep", f"{kept:,} of {len(names):,} nodes in float"))
        changed = copy_of(model)
        plan.keeping(names[:kept]).finish(changed)
        with tempfile.TemporaryDirectory(dir=scratch) as room:
            backend.compile(changed, Path(room))
            del changed
            run = backend.load if backend.unavailable() is None else backend.simulate
            trials.append(judge(kept, run(Path(room), options or RunOptions())))
        return trials[-1].holds

    if holds(0):
        return pipeline, Mixed(limits, len(names), (), tuple(trials), holds=True)
    if not holds(len(names)):
        if not force:
            raise VerificationError(
                f"even with all {len(names):,} nodes in float, an output is beyond {limits}: "
                f"{trials[-1]}. No engine was written; allow more, or look at the other passes "
                "of --pipeline"
            )
        found = Mixed(limits, len(names), (), tuple(trials), holds=False)
        return plan.keeping(names).pipeline, found
    ranking = rank(
        plan,
        model,
        backend,
        witness.samples,
        scratch,
        metric=limits.metric,
        options=options,
        tell=tell,
    )
    names = [damage.node for damage in ranking.nodes]
    count = first_bad(len(names), holds)  # the first number of nodes with which it holds
    found = Mixed(limits, len(names), ranking.nodes[:count], tuple(trials), holds=True)
    return plan.keeping(names[:count]).pipeline, found


class _Judge:
    """Compares engines with the original."""

    def __init__(self, witness: Witness, limits: Limits) -> None:
        self._witness = witness
        self._limits = limits
        self._inputs: list[Inputs] = [sample.inputs for sample in witness.samples]
        self._known: dict[int, Outputs] = {}
        self._room = _ROOM

    def __call__(self, kept: int, session: Runner) -> Trial:
        """What an engine does."""
        witness, metric = self._witness, self._limits.metric
        computed: list[Outputs] = []
        expected: list[Outputs] = []
        found = compare(
            _heard(session, computed, wanted=metric is not None),
            _heard(self._original, expected, wanted=metric is not None),
            witness.samples,
            budget=self._limits.error,
            described=witness.described,
            kinds=witness.kinds,
        )
        drop = None
        if metric is not None:
            # The original runs twice on the first sample.
            drop = metric(expected[1:], self._inputs) - metric(computed, self._inputs)
        within = drop is None or self._limits.drop is None or drop <= self._limits.drop
        least = min((it.sqnr_db for it in found.outputs.values()), default=math.inf)
        return Trial(kept, found.holds and within, found.worst, least, drop)

    def _original(self, inputs: Inputs) -> Outputs:
        """What is right; on all samples but the first it is remembered, as far as memory allows."""
        if id(inputs) in self._known:
            return self._known[id(inputs)]
        outputs = self._witness.session(inputs)
        size = sum(np.asarray(array).nbytes for array in outputs.values())
        if inputs is not self._inputs[0] and size <= self._room:
            self._known[id(inputs)] = outputs
            self._room -= size
        return outputs


def _heard(run: Runner, outputs: list[Outputs], *, wanted: bool) -> Runner:
    """``run``, whose results are held if they are ``wanted``."""

    def heard(inputs: Inputs) -> Outputs:
        found = run(inputs)
        outputs.append(found)
        return found

    return heard if wanted else run
