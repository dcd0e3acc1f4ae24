"""What can be asked of an engine that is made while a model is trained."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from infopt.errors import UsageError, nearest
from infopt.evidence.data import DataSource
from infopt.tuning.metric import MetricSource


class Wishes(TypedDict, total=False):
    """What can be asked for, beside the options of :func:`infopt.optimize` in ``options``."""

    example_inputs: Any
    """Arguments of one call: a tuple, a dictionary, or a list of several of them."""
    dynamic_shapes: Mapping[str, Mapping[int, str]] | None
    """Input name → {axis: name of the dimension}; by default the first axis is the batch."""
    prepare: Callable[[Any], object] | None
    """What to compile, made of the module in training: a copy that is converted to integers, a
    part of it, averaged weights; a module or an ``ExportedProgram``."""
    data: DataSource | None
    """Inputs, to calibrate, compare and judge on."""
    metric: MetricSource | None
    """How good the engine's outputs on ``data`` are; as for :func:`infopt.optimize`."""
    baseline: str | os.PathLike[str] | None
    """What :func:`infopt.check` holds the engine against."""
    limits: Mapping[str, Any]
    """Arguments of :func:`infopt.check`, such as ``{"max_slowdown": "5%", "max_drop": 0.01}``."""
    monitor: str | None
    """By which score the best engine is chosen: one of ``scores``, or ``"infopt/metric"``, which
    it is where there is a metric. Without any, the latest is the best."""
    mode: Literal["max", "min"]
    """Whether a higher score is better; it is, unless said otherwise."""
    keep: Literal["best", "all"]
    """Whether the engines of other epochs are kept beside the best."""
    on_error: Literal["warn", "raise"]
    """What becomes of an error: a warning in the log ``infopt`` and a training that goes on, or an
    exception."""
    options: Mapping[str, Any]
    """Arguments of :func:`infopt.optimize`, such as ``{"precision": "int8"}``."""


def check_beforehand(wishes: Wishes) -> None:
    """Find out what cannot be before hours of training have passed.

    Raises:
        UsageError: A wish makes no sense, or there is no such baseline.
    """
    check_wishes(wishes)
    baseline = wishes.get("baseline")
    if baseline is not None and not Path(baseline).is_file():
        raise UsageError(f"there is no baseline {baseline}; `infopt baseline` takes one")


def check_wishes(wishes: Wishes) -> None:
    """Find out what makes no sense.

    Raises:
        UsageError: A wish does not.
    """
    for name in wishes:
        if name not in Wishes.__annotations__:
            known = ", ".join(Wishes.__annotations__)
            raise UsageError(
                f"there is no wish {name!r}{nearest(name, Wishes.__annotations__)}; there are "
                f"{known}; arguments of infopt.optimize go into options={{{name!r}: …}}"
            )
    for name, words in (
        ("mode", ("max", "min")),
        ("keep", ("best", "all")),
        ("on_error", ("warn", "raise")),
    ):
        chosen = wishes.get(name, words[0])
        if chosen not in words:
            raise UsageError(f"{name} is {chosen!r}; it is one of {', '.join(words)}")
    if wishes.get("metric") is not None and wishes.get("data") is None:
        raise UsageError("a metric says nothing about made-up inputs; give data")
    if isinstance(wishes.get("data"), Iterator):
        raise UsageError("the data is read again at every epoch; give a list of it")
    if wishes.get("limits") and wishes.get("baseline") is None:
        raise UsageError("limits are distances from a baseline; give one")
    for name in ("example_inputs", "dynamic_shapes", "data"):
        if name in wishes.get("options", {}):
            raise UsageError(f"{name} is a wish of its own, not one of options")
