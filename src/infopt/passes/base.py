"""What a pass is, and the journal through which it makes every change.

A pass asks its :class:`Journal` for leave before each change. That one rule buys three
things: ``modified`` is honest by construction, every change has a name (rule and node) that
a person can be shown, and a failing verification can be bisected to the very change that
broke the model by replaying the pass with fewer and fewer changes allowed.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import onnx_ir as ir

from infopt.quant.calibration import Request


class Preserves(enum.Enum):
    """How exactly a pass keeps what the model computes."""

    EXACT = "exact"
    """Bit for bit."""
    ROUNDING = "rounding"
    """Up to reordered floating-point operations; the pass states its tolerance."""
    APPROXIMATE = "approximate"
    """Precision changes; an error budget applies."""


@dataclasses.dataclass(frozen=True)
class Change:
    """One change that a pass made: the rule that applied, and where."""

    rule: str
    node: str


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A near match that a pass left alone, and why."""

    rule: str
    node: str
    reason: str


class Journal:
    """The record of one run of one pass, and its leave to change the model.

    Args:
        limit: How many changes are allowed; ``None`` for no limit. After that many,
            :meth:`permits` says no and the pass leaves the rest of the model alone.
    """

    def __init__(self, limit: int | None = None) -> None:
        self.changes: list[Change] = []
        self.refusals: list[Refusal] = []
        self._limit = limit

    def permits(self, rule: str, where: ir.Node | ir.Value | str) -> bool:
        """Ask leave for one change; a pass that gets it must make the change."""
        if self._limit is not None and len(self.changes) >= self._limit:
            return False
        self.changes.append(Change(rule, label(where)))
        return True

    def refuse(self, rule: str, where: ir.Node | ir.Value | str, reason: str) -> None:
        """Record that a near match was left alone, and why."""
        self.refusals.append(Refusal(rule, label(where), reason))


def label(where: ir.Node | ir.Value | str) -> str:
    """What a person would call a node or value: its name, else its operator and output."""
    if isinstance(where, str):
        return where
    if isinstance(where, ir.Value):
        return where.name or "(unnamed value)"
    if where.name:
        return where.name
    output = next((o.name for o in where.outputs if o.name), "?")
    return f"{where.op_type} → {output}"


@dataclasses.dataclass
class Result(ir.passes.PassResult):
    """A pass result of onnx_ir, with the journal of the run."""

    journal: Journal


@dataclasses.dataclass(frozen=True)
class Pass(ir.passes.InPlacePass):
    """Base of all passes: a frozen dataclass whose fields are its options.

    A subclass sets ``name`` (its word in pipelines), ``preserves`` and, where it preserves up
    to rounding, ``tolerance``; it implements :meth:`apply`. It must be idempotent, keep the
    graph's inputs and outputs (names, types, order), visit subgraphs and functions, and give
    every value that it creates a type and, where known, a shape.

    Option fields may be ``int``, ``float``, ``bool`` or ``str``, and need a default.
    """

    name: ClassVar[str]
    preserves: ClassVar[Preserves]
    tolerance: ClassVar[float] = 0.0
    """Largest relative error of an output, ``max|a-b| / max|b|``, that the pass may cause."""
    rounding: ClassVar[float] = 0.0
    """Relative error of one operator in the type that an approximate pass changes to."""

    def observes(self, model: ir.Model) -> Iterable[Request]:
        """What the pass will want to know of the values of ``model`` on data, if anything.

        A pipeline's ``calibrate`` before the pass observes it; the pass finds it with
        :func:`infopt.passes.observed.calibration_of`.
        """
        del model
        return ()

    @abstractmethod
    def apply(self, model: ir.Model, journal: Journal) -> None:
        """Change ``model`` in place, asking ``journal`` for leave before each change."""

    def call(self, model: ir.Model, limit: int | None = None) -> Result:
        """Run the pass; with ``limit``, make at most so many changes."""
        journal = Journal(limit)
        self.apply(model, journal)
        return Result(model, modified=bool(journal.changes), journal=journal)

    def __str__(self) -> str:
        """Return the pass as it is written in a pipeline: ``name{option=value,…}``."""
        options = [
            f"{field.name}={_literal(getattr(self, field.name))}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return self.name + ("{" + ",".join(options) + "}" if options else "")


WORD = r"[A-Za-z0-9_.+-]+"
"""What stands in a pipeline as it is; any other text stands in quotes, as in JSON."""


def _literal(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return text if re.fullmatch(WORD, text) else json.dumps(text, ensure_ascii=False)
