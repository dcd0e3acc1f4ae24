"""Exports the cells of the matrix into a folder, each with inputs at two shapes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coverage.families import INPUTS, PAST, SEQUENCES, Cell, build

SHAPES = ((2, 12), (3, 17))
"""Batch and length of the two sets of inputs; the export sees the first."""


@dataclasses.dataclass(frozen=True)
class Export:
    """A cell on disk."""

    model: Path
    inputs: tuple[dict[str, np.ndarray], ...]
    sizes: str
    """Which sizes are dynamic: ``all``, ``batch`` or ``none``."""


class ExportError(Exception):
    """The exporter refused the model; the message is its own first line."""


def export(cell: Cell, cache: Path) -> Export:
    """Export ``cell``, unless the folder ``cache`` has it already.

    Raises:
        ExportError: The exporter cannot export the model.
    """
    cache.mkdir(parents=True, exist_ok=True)
    model, note = cache / f"{cell.name}.onnx", cache / f"{cell.name}.json"
    if not note.exists():
        with _quiet():
            try:
                result = {"sizes": _export(cell, model)}
                _try(model, _inputs(cell, *SHAPES[0], left=False))
            except Exception as error:
                result = {"error": _first_line(error)}
        note.write_text(json.dumps(result))
    result = json.loads(note.read_text())
    if "error" in result:
        raise ExportError(result["error"])
    shapes = SHAPES if result["sizes"] != "none" else SHAPES[:1]
    inputs = [_inputs(cell, *shape, left=bool(i)) for i, shape in enumerate(shapes)]
    arrays = tuple({name: x.numpy() for name, x in entry.items()} for entry in inputs)
    return Export(model, arrays, result["sizes"])


def _inputs(cell: Cell, batch: int, length: int, *, left: bool) -> dict[str, Any]:
    import torch

    torch.manual_seed(1 + int(left))
    inputs: dict[str, Any] = INPUTS[cell.family.kind](batch, length, mask=cell.mask, left=left)
    return inputs


def _export(cell: Cell, path: Path) -> str:
    """Export with as many dynamic sizes as the exporter takes; says which."""
    import torch

    names = list(_inputs(cell, *SHAPES[0], left=False))
    model = _first_output(build(cell.family, cell.attention), names)
    values = tuple(_inputs(cell, *SHAPES[0], left=False).values())
    if cell.exporter == "torchscript":
        torch.onnx.export(
            model,
            values,
            str(path),
            dynamo=False,
            input_names=names,
            dynamic_axes={name: dict(_axes(name, names)) for name in names},
        )
        return "all"
    first: Exception | None = None
    for sizes in ("all", "batch", "none"):
        try:
            program = torch.onnx.export(
                model,
                values,
                dynamo=True,
                input_names=names,
                dynamic_shapes=_dynamic(names, sizes),
                verbose=False,
            )
            assert program is not None
            program.save(str(path))
        except Exception as error:
            first = first or error
        else:
            return sizes
    assert first is not None
    raise first


def _try(path: Path, inputs: dict[str, Any]) -> None:
    """Run an export; what ONNX Runtime cannot run is none."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    try:
        session.run(None, {x.name: inputs[x.name].numpy() for x in session.get_inputs()})
    except Exception as error:
        reason = str(error).rpartition(" was false. ")[2]
        raise RuntimeError(f"ONNX Runtime cannot run what was exported: {reason}") from None


def _axes(name: str, names: list[str]) -> Iterator[tuple[int, str]]:
    """The dynamic axes of an input; ``total`` is the length of past and sequence."""
    yield 0, "batch"
    if name.startswith(PAST):
        yield 2, "past"
    elif name == "attention_mask" and any(other.startswith(PAST) for other in names):
        yield 1, "total"
    elif name in SEQUENCES:
        yield 1, SEQUENCES[name]


def _dynamic(names: list[str], sizes: str) -> Any:
    import torch

    if sizes == "none":
        return None
    axes = [dict(_axes(name, names)) for name in names]
    found = sorted({dim for entry in axes for dim in entry.values()})
    dims = {dim: torch.export.Dim(dim, max=64) for dim in found if sizes == "all" or dim == "batch"}
    if "total" in dims:  # the sum of two others, which no Dim can say
        dims["total"] = torch.export.Dim.AUTO
    entries = [{axis: dims[dim] for axis, dim in entry.items() if dim in dims} for entry in axes]
    return {"inputs": tuple(entries)}


def _first_output(model: Any, names: list[str]) -> Any:
    """``model`` with inputs by position and one output, or with it the keys and values to keep."""
    import torch
    from transformers import DynamicCache

    class FirstOutput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> Any:
            given: dict[str, Any] = dict(zip(names, inputs, strict=True))
            past = [given.pop(name) for name in names if name.startswith(PAST)]
            if not past:
                return self.model(**given)[0]
            cache = DynamicCache(list(zip(past[::2], past[1::2], strict=True)))
            result = self.model(**given, past_key_values=cache, use_cache=True)[0]
            layers: Any = cache.layers
            return result, *((layer.keys, layer.values) for layer in layers)

    # Weights that want gradients lead torch to another form of attention, which for a bias that
    # is a weight, as in T5, BEiT and Swin, it then cannot export.
    return FirstOutput().eval().requires_grad_(False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _first_line(error: BaseException) -> str:
    """The innermost cause, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]
