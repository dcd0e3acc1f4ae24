"""Where the time of one run goes, node by node, as the runtime's own profiler tells."""

from __future__ import annotations

import bisect
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from infopt import provenance, record
from infopt.backends.base import RunOptions, Session, Span, Timeline
from infopt.errors import UnavailableError, interruptible
from infopt.events import Event, Listener, ignore
from infopt.evidence.data import DataSource
from infopt.evidence.equivalence import Inputs, Sample
from infopt.evidence.shapes import Given as Shapes
from infopt.evidence.shapes import as_shapes
from infopt.ir import queries
from infopt.ir.layers import Layers
from infopt.signatures import KeyFile
from infopt.subjects import opened
from infopt.witness import find_samples

WARM_UP = 3
"""Calls that are not counted: threads start, weights are packed, memory is asked for."""
_LEAST, _MOST = 5, 1000
_MOST_SPANS = 200_000
"""The profiler keeps all of them in memory; ONNX Runtime's stops at a million events."""


@dataclasses.dataclass(frozen=True)
class NodeTime:
    """What one node took."""

    node: str
    """What the runtime calls it."""
    origin: str
    """The node of the model that computes the same value; empty where names do not tell."""
    layer: str
    """As in ``encoder.layer.1``; empty where names do not tell."""
    operator: str
    provider: str
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    """Type and shape of each output, in the last call."""
    seconds: float
    """The median over calls, without the nodes of its own graphs (branches, bodies of loops)."""
    share: float
    """Of what all nodes took."""
    runs: float
    """How often it runs in one call: bodies of loops do more often than once."""


@dataclasses.dataclass(frozen=True)
class OperatorTime:
    """What all nodes of one operator took."""

    operator: str
    provider: str
    nodes: int
    seconds: float
    share: float


@dataclasses.dataclass(frozen=True)
class Profile:
    """Where the time of one run goes."""

    subject: str
    sample: str
    """On what it ran: origin and shapes."""
    calls: int
    """Over how many calls the medians are."""
    seconds: float
    """The median of a whole call, with the profiler running, which costs time itself."""
    between: float
    """The median of what of a call is in no node: the runtime's own work, and the profiler's."""
    nodes: tuple[NodeTime, ...]
    """The slowest first."""
    operators: tuple[OperatorTime, ...]
    """The slowest first."""
    timeline: Timeline = dataclasses.field(repr=False)
    """The calls that were counted, kernel by kernel."""

    def as_dict(self) -> dict[str, Any]:
        """Return all figures and the conditions, ready for JSON; not the timeline."""
        fields = (f.name for f in dataclasses.fields(self) if f.name not in ("timeline",))
        plain = {name: getattr(self, name) for name in fields}
        plain["nodes"] = [dataclasses.asdict(node) for node in self.nodes]
        plain["operators"] = [dataclasses.asdict(operator) for operator in self.operators]
        return {
            **plain,
            "versions": provenance.versions(),
            "hardware": provenance.hardware(),
        }

    def trace(self) -> dict[str, Any]:
        """The timeline as trace events, which Perfetto and Chrome open (times in microseconds)."""
        about = {node.node: node for node in self.nodes}
        events: list[dict[str, Any]] = [
            {"ph": "M", "pid": 1, "name": "process_name", "args": {"name": self.subject}}
        ]
        threads = sorted({span.thread for span in self.timeline.spans})
        for number, thread in enumerate(threads):
            name = {"name": "calls and kernels" if number == 0 else f"kernels {number + 1}"}
            events.append({"ph": "M", "pid": 1, "tid": thread, "name": "thread_name", "args": name})
        first = threads[0] if threads else 0
        for number, (start, seconds) in enumerate(self.timeline.calls):
            events.append(_event(f"call {number}", "call", first, start, seconds))
        for span in self.timeline.spans:
            node = about[span.node]
            args = {
                "node": span.node,
                "origin": node.origin,
                "layer": node.layer,
                "provider": span.provider,
                "outputs": [f"{dtype}{list(shape)}" for dtype, shape in span.outputs],
            }
            event = _event(span.operator, span.provider, span.thread, span.start, span.seconds)
            events.append({**event, "args": args})
        return {
            "traceEvents": events,
            "displayTimeUnit": "ms",
            "otherData": {"sample": self.sample, **provenance.versions()},
        }


def profile(
    subject: object,
    *,
    shapes: Shapes = (),
    data: DataSource | None = None,
    seconds: float = 3.0,
    threads: int | None = None,
    seed: int = 0,
    trusted: Sequence[KeyFile] = (),
    on_event: Listener = ignore,
) -> Profile:
    """Run a model or an engine under the runtime's profiler.

    Args:
        subject: An engine directory, or anything that can be imported: a model runs as the
            runtime runs it by default.
        shapes: Sizes of dynamic dimensions; of a range the lower end.
        data: Real inputs, of which the first are used; by default synthetic ones.
        seconds: Time budget of the calls.
        threads: Threads of one operator; by default every core.
        seed: Of synthetic inputs.
        trusted: Files with public keys; if there are any, one of them has to have signed an
            engine.
        on_event: Told of every step.

    Raises:
        UsageError: ``shapes`` or ``data`` do not fit.
        ModelError: The subject is no valid model.
        EngineError: The subject is a damaged engine.
        UnavailableError: The runtime or device is not there, or has no profiler.
    """
    with interruptible(), tempfile.TemporaryDirectory(prefix="infopt-") as scratch:
        name = record.name(subject)
        on_event(Event("import", name))
        notes = Path(scratch) / "profile"
        notes.mkdir()
        options = RunOptions(threads=threads, profile=notes)
        session, imported, _ = opened(subject, Path(scratch) / "model", options, trusted)
        model = imported.model
        samples, _ = find_samples(model, session, shapes=as_shapes(shapes), data=data, seed=seed)
        on_event(Event("measure", f"{name} at {samples[0].shapes()}"))
        return profiled(session, model, samples[0], name=name, seconds=seconds)


def profiled(
    session: Session, model: ir.Model, sample: Sample, *, name: str, seconds: float
) -> Profile:
    """Call a session that was loaded to be profiled, and read what its profiler noted.

    Args:
        session: Loaded with :attr:`RunOptions.profile`; it notes nothing afterwards.
        model: What it runs: names of nodes and values in it are looked up.
        sample: The inputs of each call.
        name: What the subject is called.
        seconds: Time budget of the calls; some are made in any case.
    """
    calls = _call(session, sample.inputs, seconds, sum(1 for _ in queries.nodes(model)))
    noted = session.timeline()
    if len(noted.calls) < WARM_UP + calls:
        raise UnavailableError(
            f"the runtime's profiler ran full after {len(noted.calls):,} of {WARM_UP + calls:,} "
            "calls; profile on smaller inputs (--shape), or for less time (--seconds)"
        )
    counted = _last(noted, calls)
    own = list(zip(counted.spans, _alone(counted.spans), strict=True))
    nodes = sorted(_nodes(counted, own, model), key=lambda node: -node.seconds)
    return Profile(
        subject=name,
        sample=f"{sample.origin}: {sample.shapes()}",
        calls=calls,
        seconds=statistics.median(length for _, length in counted.calls),
        between=statistics.median(_between(counted, own)),
        nodes=tuple(nodes),
        operators=tuple(_operators(nodes)),
        timeline=counted,
    )


def _call(session: Session, inputs: Inputs, seconds: float, nodes: int) -> int:
    """Make calls that count, after some that do not; returns how many count."""
    for _ in range(WARM_UP):
        session(inputs)
    most = max(min(_MOST, _MOST_SPANS // max(nodes, 1)), _LEAST)
    end, calls = time.perf_counter() + seconds, 0
    while calls < _LEAST or (calls < most and time.perf_counter() < end):
        session(inputs)
        calls += 1
    return calls


def _last(timeline: Timeline, calls: int) -> Timeline:
    """The last ``calls`` calls; those before warmed up, or tried out inputs."""
    counted = timeline.calls[-calls:]
    begin = counted[0][0]
    return Timeline(counted, tuple(span for span in timeline.spans if span.start >= begin))


Own = Sequence[tuple[Span, float]]
"""Each span, and the seconds that are its own."""


def _nodes(timeline: Timeline, own: Own, model: ir.Model) -> Iterator[NodeTime]:
    taken: dict[str, dict[int, float]] = {}
    last: dict[str, Span] = {}
    runs: dict[str, int] = {}
    at = _call_of(timeline)
    for span, alone in own:
        by_call = taken.setdefault(span.node, {})
        by_call[at(span)] = by_call.get(at(span), 0.0) + alone
        last[span.node] = span
        runs[span.node] = runs.get(span.node, 0) + 1
    calls = len(timeline.calls)
    # A node that did not run in a call (in the other branch) took no time in it.
    medians = {
        node: statistics.median([*by_call.values(), *([0.0] * (calls - len(by_call)))])
        for node, by_call in taken.items()
    }
    total = sum(medians.values())
    names, makers, layers = _names(model)
    for node, span in last.items():
        origin = node if node in names else makers.get(span.value, "")
        yield NodeTime(
            node=node,
            origin=origin,
            layer=layers.of(origin or node),
            operator=span.operator,
            provider=span.provider,
            outputs=span.outputs,
            seconds=medians[node],
            share=medians[node] / total if total else 0.0,
            runs=runs[node] / calls,
        )


def _between(timeline: Timeline, own: Own) -> list[float]:
    """Seconds of each call in which no node ran."""
    at, left = _call_of(timeline), [length for _, length in timeline.calls]
    for span, alone in own:
        left[at(span)] -= alone
    return [max(seconds, 0.0) for seconds in left]


def _names(model: ir.Model) -> tuple[set[str], dict[str, str], Layers]:
    """Nodes; value → the node that computes it; and the layers of nodes."""
    nodes = list(queries.nodes(model))
    makers = {
        output.name: node.name or "" for node in nodes for output in node.outputs if output.name
    }
    return {node.name for node in nodes if node.name}, makers, Layers(model)


def _call_of(timeline: Timeline) -> Callable[[Span], int]:
    """In which call a span lies."""
    starts = [start for start, _ in timeline.calls]
    return lambda span: bisect.bisect_right(starts, span.start) - 1


def _alone(spans: Sequence[Span]) -> list[float]:
    """Seconds of each span without those that lie within it on the same thread."""
    alone = [span.seconds for span in spans]
    open_: dict[int, list[int]] = {}  # thread → the spans that have not ended yet
    for index, span in enumerate(spans):
        stack = open_.setdefault(span.thread, [])
        # Clocks tick in microseconds: a span may seem to begin just before another has ended.
        while stack and span.start + span.seconds > _end(spans[stack[-1]]) + 1e-6:
            stack.pop()
        if stack and span.start < _end(spans[stack[-1]]):
            alone[stack[-1]] = max(alone[stack[-1]] - span.seconds, 0.0)
        stack.append(index)
    return alone


def _end(span: Span) -> float:
    return span.start + span.seconds


def _operators(nodes: Iterable[NodeTime]) -> list[OperatorTime]:
    found: dict[tuple[str, str], list[NodeTime]] = {}
    for node in nodes:
        found.setdefault((node.operator, node.provider), []).append(node)
    summed = [
        OperatorTime(
            operator,
            provider,
            len(rows),
            sum(row.seconds for row in rows),
            sum(row.share for row in rows),
        )
        for (operator, provider), rows in found.items()
    ]
    return sorted(summed, key=lambda row: -row.seconds)


def _event(name: str, category: str, thread: int, start: float, seconds: float) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": name,
        "cat": category,
        "pid": 1,
        "tid": thread,
        "ts": round(start * 1e6, 3),
        "dur": round(seconds * 1e6, 3),
    }
