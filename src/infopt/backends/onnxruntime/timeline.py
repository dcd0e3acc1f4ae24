"""What ONNX Runtime's profiler notes, read back.

It writes a JSON list of events: one for each call of the session, and one for each kernel that a
call ran, in microseconds since the session began to load. Kernels go by the names of nodes in the
graph that the runtime has made of the model: fusions invent some. What values are called stays,
so the graph is written, too, and tells which value each node computes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from infopt.backends.base import Span, Timeline
from infopt.ir import queries

_GRAPH = "graph.onnx"
_WEIGHTS = "graph.data"
_KERNEL = "_kernel_time"
_BLOCKED = "com.microsoft.nchwc"


def ask(settings: Any, room: Path) -> None:
    """Let a session of these settings be profiled, into an empty directory."""
    settings.enable_profiling = True
    settings.profile_file_prefix = str(room / "profile")
    settings.optimized_model_filepath = str(room / _GRAPH)
    settings.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", _WEIGHTS
    )


def read(file: Path, room: Path) -> Timeline:
    """The events of a file that the profiler has written, and the graph beside it."""
    events = json.loads(file.read_text(encoding="utf-8"))
    values = _values(room / _GRAPH)
    calls = [_when(event) for event in events if event["name"] == "model_run"]
    spans = [
        _span(event, values)
        for event in events
        if event["cat"] == "Node" and event["name"].endswith(_KERNEL)
    ]
    return Timeline(tuple(sorted(calls)), tuple(sorted(spans, key=lambda span: span.start)))


def _span(event: Mapping[str, Any], values: Mapping[str, str]) -> Span:
    args = event["args"]
    node = event["name"].removesuffix(_KERNEL)
    start, seconds = _when(event)
    return Span(
        node=node,
        value=values.get(node, ""),
        operator=args.get("op_name", ""),
        provider=args.get("provider", ""),
        outputs=tuple(_types(args.get("output_type_shape", ()))),
        start=start,
        seconds=seconds,
        thread=int(event["tid"]),
    )


def _when(event: Mapping[str, Any]) -> tuple[float, float]:
    return event["ts"] * 1e-6, event["dur"] * 1e-6


def _types(outputs: Iterable[Mapping[str, list[int]]]) -> Iterable[tuple[str, tuple[int, ...]]]:
    for output in outputs:
        for dtype, shape in output.items():
            yield dtype, tuple(shape)


def _values(file: Path) -> dict[str, str]:
    """Node → the first value that it computes, where the name of the node occurs once."""
    found: dict[str, str] = {}
    for node in queries.nodes(ir.load(file)):
        name, value = node.name or "", node.outputs[0].name if node.outputs else None
        if node.domain == _BLOCKED:  # named after the value that it computes in another layout
            value = name.rpartition("_nchwc")[0] or value
        found[name] = "" if name in found else value or ""
    return found
