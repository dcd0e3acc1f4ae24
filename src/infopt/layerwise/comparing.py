"""Compare two models layer by layer, and find where they part ways."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from infopt.backends import backend_for
from infopt.backends.base import Backend, RunOptions, Session
from infopt.errors import UsageError
from infopt.events import Event, Listener, ignore
from infopt.evidence.equivalence import Budget, Sample
from infopt.evidence.metrics import EQUAL, Difference, difference
from infopt.ir import queries
from infopt.ir.layers import Layers
from infopt.layerwise.instrumented import Instrumented
from infopt.layerwise.matching import Match, match
from infopt.passes.cleanup.inline_functions import InlineFunctions
from infopt.target import DEFAULT_TARGET, parse_target


@dataclasses.dataclass(frozen=True)
class TensorError:
    """How far a value of the candidate is from the one of the reference that it ought to equal."""

    value: str
    """What the reference calls it."""
    candidate: str
    """What the candidate calls it."""
    how: str
    """By what they were matched: ``name``, ``rewritten`` or ``structure``."""
    node: str
    """The node of the reference that computes it."""
    operator: str
    layer: str
    """As in ``encoder.layer.1``; empty where names do not tell."""
    difference: Difference
    """The worst over all samples."""
    within: bool
    """Whether it is within the tolerance on all of them."""
    absorbed: bool
    """Whether it is not, but all that follows is: its channels are scaled differently, say."""

    @property
    def diverges(self) -> bool:
        """Whether it is off, and so is what follows."""
        return not self.within and not self.absorbed


@dataclasses.dataclass(frozen=True)
class LayerError:
    """The worst of a layer."""

    layer: str
    """Empty for values that belong to none, or where names do not tell."""
    tensors: int
    max_relative: float
    sqnr_db: float
    diverges: bool


@dataclasses.dataclass(frozen=True)
class LayerComparison:
    """Two models beside each other, value by value."""

    tensors: tuple[TensorError, ...]
    """In the order in which the reference computes them."""
    computed: int
    """How many floating-point values the reference computes in all."""
    samples: tuple[str, ...]
    tolerance: float
    """The largest ``max_relative`` that was not called divergent."""
    parts: tuple[int, int]
    """In how many parts the candidate and the reference ran."""
    notes: tuple[str, ...] = ()
    """What limits the comparison."""

    @property
    def first(self) -> TensorError | None:
        """Where both part ways."""
        return next((tensor for tensor in self.tensors if tensor.diverges), None)

    @property
    def layers(self) -> tuple[LayerError, ...]:
        """The layers, in the order in which they are first met; absorbed errors are left out."""
        found: dict[str, list[TensorError]] = {}
        for tensor in self.tensors:
            found.setdefault(tensor.layer, []).append(tensor)
        return tuple(_layer(layer, tensors) for layer, tensors in found.items())

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; infinite values become strings there."""
        return {
            "first": None if self.first is None else _plain(self.first),
            "layers": [dataclasses.asdict(layer) for layer in self.layers],
            "tensors": [_plain(tensor) for tensor in self.tensors],
            "computed": self.computed,
            "samples": self.samples,
            "tolerance": self.tolerance,
            "parts": self.parts,
            "notes": self.notes,
        }


def _plain(tensor: TensorError) -> dict[str, Any]:
    plain = dataclasses.asdict(tensor)
    return {**plain, "diverges": tensor.diverges}


def _layer(layer: str, tensors: Sequence[TensorError]) -> LayerError:
    telling = [tensor.difference for tensor in tensors if not tensor.absorbed]
    return LayerError(
        layer=layer,
        tensors=len(tensors),
        max_relative=max((found.max_relative for found in telling), default=0.0),
        sqnr_db=min((found.sqnr_db for found in telling), default=math.inf),
        diverges=any(tensor.diverges for tensor in tensors),
    )


def between(
    candidate: ir.Model,
    reference: ir.Model,
    samples: Sequence[Sample],
    *,
    backend: Backend,
    tolerance: float,
    options: RunOptions | None = None,
    tell: Listener = ignore,
) -> LayerComparison:
    """Compare all values that can be matched, in one pass over the samples.

    Both models run on this machine's processor, as they say and with the runtime's optimizations
    off: copies of them that return what is inside, in parts, of which one is held at a time. The
    engine itself is not touched.

    Args:
        candidate: What is to be shown right.
        reference: What is right.
        samples: The inputs to compare on.
        backend: Of the candidate's target: a model in 16 bits, say, is rounded as there.
        tolerance: The largest ``max_relative`` (see :class:`Difference`) that does not count.
        options: How to run.
        tell: Told of the comparison.

    Raises:
        UsageError: Nothing in both models can be matched.
        CompileError: The runtime refuses a part of a model.
    """
    candidate, reference = _inlined(candidate), _inlined(reference)
    matches = match(reference, candidate)
    if not matches:
        raise UsageError(
            "nothing inside these models can be matched: neither names nor structure agree; "
            "compare their outputs alone (without --per-layer)"
        )
    options = dataclasses.replace(options or RunOptions(), optimize=False)
    plain = backend_for(parse_target(DEFAULT_TARGET))
    inputs = samples[0].inputs
    with tempfile.TemporaryDirectory(prefix="infopt-") as room:
        ours = Instrumented(
            candidate,
            [found.candidate for found in matches],
            inputs,
            lambda model, place: _opened(backend, model, place, options),
            Path(room) / "candidate",
        )
        theirs = Instrumented(
            reference,
            [found.reference for found in matches],
            inputs,
            lambda model, place: _opened(plain, model, place, options),
            Path(room) / "reference",
        )
        worst: dict[Match, Difference] = dict.fromkeys(matches, EQUAL)
        tell(Event("verify", f"layer by layer, {len(samples)} samples"))
        for sample in samples:
            for found, error in _errors(matches, theirs, ours, sample):
                worst[found] = worst[found].worse(error)
        sizes = len(ours), len(theirs)
    return LayerComparison(
        tensors=tuple(_told(worst, reference, tolerance)),
        computed=_computed(reference),
        samples=tuple(f"{sample.origin}: {sample.shapes()}" for sample in samples),
        tolerance=tolerance,
        parts=sizes,
        notes=_notes(matches, reference),
    )


def _inlined(model: ir.Model) -> ir.Model:
    model = model.clone()
    InlineFunctions().call(model)
    return model


def _opened(backend: Backend, model: ir.Model, place: Path, options: RunOptions) -> Session:
    backend.compile(model, place)
    return backend.simulate(place, options)


def _errors(
    matches: Sequence[Match], reference: Instrumented, candidate: Instrumented, sample: Sample
) -> Iterator[tuple[Match, Difference]]:
    """The differences on one sample; both sides go on together, and what is compared is let go."""
    sides = (reference.run(sample.inputs), candidate.run(sample.inputs))
    names = (
        {found.reference.name: found for found in matches},
        {found.candidate.name: found for found in matches},
    )
    waiting: tuple[dict[Match, Any], dict[Match, Any]] = ({}, {})
    seen, ended = [0, 0], [False, False]
    while not all(ended):
        # Whoever is behind: what the other has shown waits for it.
        side = 1 if ended[0] or (not ended[1] and seen[1] < seen[0]) else 0
        shown = next(sides[side], None)
        if shown is None:
            ended[side] = True
            continue
        seen[side] += len(shown)
        for name, array in shown.items():
            found = names[side][name]
            other = waiting[1 - side].pop(found, None)
            if other is None:
                waiting[side][found] = array
            else:
                pair = (array, other) if side == 0 else (other, array)
                yield found, _difference(pair[1], pair[0])


def _difference(computed: Any, expected: Any) -> Difference:
    """As between outputs, but that neither precision nor shape is a difference in itself."""
    a, b = np.asarray(computed), np.asarray(expected)
    if a.shape != b.shape and a.size == b.size:
        a = a.reshape(b.shape)
    return difference(a.astype(b.dtype), b)


def _told(
    worst: Mapping[Match, Difference], reference: ir.Model, tolerance: float
) -> Iterator[TensorError]:
    layers, budget = Layers(reference), Budget(tolerance)
    beyond = {found.reference for found, error in worst.items() if not budget.allows(error)}
    live = _live(beyond, {found.reference for found in worst}, reference)
    for found, error in worst.items():
        node = found.reference.producer()
        assert node is not None
        yield TensorError(
            value=found.reference.name or "",
            candidate=found.candidate.name or "",
            how=found.how,
            node=node.name or "",
            operator=queries.operator_name(node),
            layer=layers.of(node.name or ""),
            difference=error,
            within=found.reference not in beyond,
            absorbed=found.reference in beyond - live,
        )


def _live(beyond: set[ir.Value], matched: set[ir.Value], model: ir.Model) -> set[ir.Value]:
    """Which errors reach an output, or a matched value behind which no other can be seen."""
    live: set[ir.Value] = set()
    reaching: set[ir.Value] = set()  # values from which an error that lives on is seen next
    ends: set[ir.Value] = set()  # values behind which nothing is seen up to an output
    for node in reversed(list(model.graph)):
        for value in node.outputs:
            readers = [use.node for use in value.uses() if use.node.graph is model.graph]
            # Of a value of which only the shape is read, no error goes on.
            readers = [r for r in readers if not queries.is_standard(r, "Shape", "Size")]
            inner = any(use.node.graph is not model.graph for use in value.uses())
            behind = [output for reader in readers for output in reader.outputs]
            if value in matched:
                if value in beyond and (
                    value.is_graph_output()
                    or any(output in reaching for output in behind)
                    or (inner or any(output in ends for output in behind))
                ):
                    live.add(value)
                    reaching.add(value)
                continue
            if any(output in reaching for output in behind):
                reaching.add(value)
            if value.is_graph_output() or inner or any(output in ends for output in behind):
                ends.add(value)
    return live


def _computed(model: ir.Model) -> int:
    return sum(
        1
        for node in model.graph
        for value in node.outputs
        if value.dtype is not None and value.dtype.is_floating_point()
    )


def _notes(matches: Sequence[Match], reference: ir.Model) -> tuple[str, ...]:
    notes = []
    if any(any(queries.subgraphs_of(node)) for node in reference.graph):
        notes.append("values inside branches and loops were not compared")
    if any(found.how == "structure" for found in matches):
        notes.append("some values are called differently and were matched by structure")
    return tuple(notes)
