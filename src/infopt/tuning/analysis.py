"""From a source to the ranking of its nodes."""

from __future__ import annotations

from pathlib import Path

from infopt.backends.base import Backend, RunOptions
from infopt.calibration import calibrator
from infopt.errors import UsageError
from infopt.events import Listener
from infopt.evidence.data import DataSource
from infopt.evidence.shapes import Shapes
from infopt.importers import Imported
from infopt.pipeline import Pipeline
from infopt.tuning.metric import MetricSource, metric_of
from infopt.tuning.plan import plan_of
from infopt.tuning.ranking import Ranking, rank
from infopt.witness import call_witness


def analyse(
    imported: Imported,
    backend: Backend,
    pipeline: Pipeline,
    scratch: Path,
    *,
    shapes: Shapes,
    data: DataSource | None,
    metric: MetricSource | None,
    synthetic: bool,
    seed: int,
    options: RunOptions,
    tell: Listener,
) -> Ranking:
    """Rank the nodes of a model; for the arguments see :func:`infopt.api.sensitivity`."""
    if metric is not None and data is None:
        raise UsageError("a metric says nothing about made-up inputs; give --data")
    judge = metric_of(metric)
    plan = plan_of(pipeline)
    model = imported.model
    witness = call_witness(imported, backend, scratch, shapes=shapes, data=data, seed=seed)
    observe = None
    if pipeline.calibrates():
        observe = calibrator(
            model,
            backend,
            scratch,
            shapes=shapes,
            data=data,
            synthetic=synthetic,
            seed=seed,
            kept=None,
            tell=tell,
        )
    plan.prepare(model, observe, tell)
    return rank(
        plan, model, backend, witness.samples, scratch, metric=judge, options=options, tell=tell
    )
