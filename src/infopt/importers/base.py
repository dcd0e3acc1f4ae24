"""What an importer is told, and what it brings home."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

ExampleInputs = tuple[object, ...] | Mapping[str, object]
"""One set of example inputs: a tuple of positional or a mapping of keyword arguments."""


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """What the user says about a source beside the source itself."""

    example_inputs: ExampleInputs | list[ExampleInputs] | None = None
    """For a torch module: the arguments of one call; a list holds several such sets, and the
    dimensions in which they differ are dynamic."""
    dynamic_shapes: Mapping[str, Mapping[int, str]] | None = None
    """Input name → {axis: name of the dimension}; ``None`` lets the importer infer it, an
    empty mapping makes every dimension static."""
    task: str | None = None
    """For Hugging Face: optimum's word for what the model does, such as
    ``text-classification``; ``None`` reads it from the architecture."""
    trust_remote_code: bool = False
    """Whether code that lies in a model directory may be run."""


@dataclasses.dataclass
class Imported:
    """A model as its exporter made it, and what is known of where it came from."""

    model: ir.Model
    kind: str
    """``"onnx"``, ``"torch"``, ``"exported-program"`` or ``"huggingface"``."""
    name: str
    """What a person would call the source."""
    path: Path | None = None
    """The original ONNX file, where there is one."""
    details: dict[str, str] = dataclasses.field(default_factory=dict)
    """Facts for the manifest: the exporter and its version, the task, the model's class."""
    samples: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    """Example inputs by the name of the graph's input."""
    expected: list[dict[str, np.ndarray]] = dataclasses.field(default_factory=list)
    """What the source framework itself computes on ``samples``, by the name of the graph's
    output; empty where there is no framework to ask."""
