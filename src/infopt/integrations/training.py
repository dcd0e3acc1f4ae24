"""The plain function behind all callbacks: a model in training becomes an engine, or does not."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from infopt import api, gating
from infopt import engine as engines
from infopt.engine import Engine
from infopt.errors import ImportFailed, Interrupted
from infopt.evidence.data import load_data
from infopt.gates.findings import Check
from infopt.importers import Imported, ImportOptions, import_model
from infopt.importers.torch_export import require_torch, short
from infopt.integrations import keeping
from infopt.integrations.undisturbed import undisturbed
from infopt.integrations.wishes import Wishes, check_wishes
from infopt.ir import files
from infopt.tuning.metric import metric_of

if TYPE_CHECKING:
    import torch

log = logging.getLogger("infopt")

OTHER_WEIGHTS = "error"
"""The finding that says nothing here: the reference of a baseline has other weights."""


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What came of one epoch."""

    epoch: int
    engine: Engine | None = None
    """The engine, if it is kept: it is the best, or all are."""
    check: Check | None = None
    """What the gate found, where there is a baseline."""
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """What a logger is told; names begin with ``infopt/``."""
    best: bool = False
    """Whether it is the best so far."""
    error: str = ""
    """Why no engine was made; empty where one was."""

    @property
    def made(self) -> bool:
        """Whether an engine was made, be it good or not."""
        return self.metrics.get("infopt/made") == 1.0


def optimize_in_training(
    module: torch.nn.Module,
    directory: str | os.PathLike[str],
    *,
    epoch: int,
    scores: Mapping[str, float] | None = None,
    **wishes: Unpack[Wishes],
) -> Attempt:
    """Compile a model as it is now, hold the engine against a baseline, keep the best.

    The model is exported as in ``eval()`` and left as it was, and so are the random states of
    Python, numpy and torch: a training goes on as if it had not been interrupted. In a training of
    several processes only the one of rank zero does anything.

    Args:
        module: The model; ``DistributedDataParallel`` and compiled modules are looked into.
        directory: Where engines go: ``best.engine``, its model ``best.reference/model.onnx`` and
            ``best.json``; with ``keep="all"`` also ``epoch-0003.engine`` and so on. A best engine
            of this epoch or a later one is forgotten: the training went back to before it.
        epoch: How many epochs the model was trained for.
        scores: What the training knows of the model, for ``monitor``.
        **wishes: See :class:`infopt.integrations.wishes.Wishes`.

    Returns:
        What came of it; unless ``on_error="raise"``, an error is in there, too.

    Raises:
        UsageError: A wish makes no sense; whatever ``on_error`` says.
        Exception: What went wrong, with ``on_error="raise"``.
        KeyboardInterrupt: The user stopped it.
    """
    require_torch()
    check_wishes(wishes)
    if not is_rank_zero():
        return Attempt(epoch)
    start = time.perf_counter()
    inner = unwrapped(module)
    try:
        with undisturbed(inner):
            found = _attempt(inner, Path(directory), epoch, scores or {}, wishes)
    except Interrupted:
        raise KeyboardInterrupt from None  # trainers stop at that, and know what to do
    except Exception as error:
        if wishes.get("on_error") == "raise":
            raise
        log.warning("epoch %d: no engine was made: %s", epoch, short(error, 1000))
        found = Attempt(epoch, metrics={"infopt/made": 0.0}, error=str(error))
    spent = {"infopt/seconds": time.perf_counter() - start}
    return dataclasses.replace(found, metrics={**found.metrics, **spent})


def is_rank_zero() -> bool:
    """Whether this process is the only one, or the first."""
    import torch

    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    return not several or torch.distributed.get_rank() == 0


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module inside whatever spreads it over processes, or compiles it."""
    import torch

    parallel = (torch.nn.parallel.DistributedDataParallel, torch.nn.DataParallel)
    while True:
        inner = module.module if isinstance(module, parallel) else None
        inner = getattr(module, "_orig_mod", inner)
        if not isinstance(inner, torch.nn.Module):
            return module
        module = inner


def refuse_sharded(module: torch.nn.Module) -> None:
    """Check that the weights are here, and not on many devices.

    Raises:
        ImportFailed: They are not.
    """
    parts = [type(one).__name__ for one in (*module.modules(), *module.parameters())]
    spread = {"FullyShardedDataParallel", "FlatParameter", "DTensor"} & set(parts)
    # DeepSpeed's third stage leaves empty parameters, and numbers them.
    if spread or any(hasattr(parameter, "ds_id") for parameter in module.parameters()):
        raise ImportFailed(
            f"the weights of {type(module).__name__} are spread over devices; gather them in "
            "`prepare`, or make the engine of a checkpoint"
        )


def _attempt(
    module: torch.nn.Module,
    directory: Path,
    epoch: int,
    scores: Mapping[str, float],
    wishes: Wishes,
) -> Attempt:
    directory.mkdir(parents=True, exist_ok=True)
    before = keeping.read(directory)
    if before is not None and before.epoch >= epoch:
        keeping.forget(directory)
        before = None
    with tempfile.TemporaryDirectory(prefix=".epoch-", dir=directory) as scratch:
        room = Path(scratch)
        imported = _imported(module, wishes)
        reference = room / keeping.REFERENCE
        reference.mkdir()
        files.write_onnx(imported.model, reference)
        data = wishes.get("data")
        inputs = [] if data is None else [it.inputs for it in load_data(data, imported.model)]
        options = {"measure": False, **wishes.get("options", {})}
        engine = api.optimize(imported, room / keeping.BEST, data=data, **options)

        metrics = {"infopt/made": 1.0, **_figures(engine)}
        metric = metric_of(wishes.get("metric"))
        if metric is not None:
            session = api.load(engine.path)
            metrics["infopt/metric"] = metric([session(given) for given in inputs], inputs)
        found = _check(engine, wishes)
        if found is not None:
            metrics["infopt/gate"] = float(found.holds)
            if not found.holds:
                log.warning("epoch %d: the gate is red: %s", epoch, found.sentence)

        monitor = wishes.get("monitor") or ("infopt/metric" if metric is not None else None)
        now = keeping.standing(epoch, monitor, {**scores, **metrics})
        green = found is None or found.holds
        best = green and now.beats(before, wishes.get("mode", "max"))
        metrics["infopt/best"] = float(best)
        path = None
        if wishes.get("keep") == "all":
            path = _copied(engine.path, directory / f"epoch-{epoch:04}.engine")
        if best:
            path = keeping.keep(engine.path, reference, directory, now)
        kept = None if path is None else dataclasses.replace(engine, path=path)
        return Attempt(epoch, kept, found, metrics, best)


def _imported(module: torch.nn.Module, wishes: Wishes) -> Imported:
    prepare = wishes.get("prepare")
    if prepare is None:
        refuse_sharded(module)
    source = module if prepare is None else prepare(module)
    options = ImportOptions(wishes.get("example_inputs"), wishes.get("dynamic_shapes"))
    return import_model(source, options)


def _figures(engine: Engine) -> dict[str, float]:
    """What the manifest says, as numbers."""
    evidence: Mapping[str, Any] = engine.manifest.evidence
    figures = {"infopt/bytes": float(engine.nbytes)}
    if isinstance(evidence.get("equivalence"), Mapping):
        outputs = evidence["equivalence"]["outputs"].values()
        figures["infopt/max_error"] = max(float(found["max_relative"]) for found in outputs)
    if isinstance(evidence.get("speed"), Mapping):
        ratio = evidence["speed"]["subjects"]["engine"]["ratio"]
        figures["infopt/speedup"] = float(ratio["value"])
    return figures


def _check(engine: Engine, wishes: Wishes) -> Check | None:
    baseline = wishes.get("baseline")
    if baseline is None:
        return None
    limits = dict(wishes.get("limits", {}))
    limits["allow"] = [*limits.get("allow", ()), OTHER_WEIGHTS]
    if limits.get("max_drop") is not None:
        limits["metric"] = wishes.get("metric")
    return gating.check(engine.path, baseline, data=wishes.get("data"), **limits)


def _copied(engine: Path, place: Path) -> Path:
    engines.check_output(place)
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(engine, place)
    return place
