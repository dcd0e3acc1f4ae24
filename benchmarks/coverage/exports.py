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

from benchmarks.coverage.families import INPUTS, SEQUENCES, Cell, build

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
            dynamic_axes={name: dict(_axes(name)) for name in names},
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


def _axes(name: str) -> Iterator[tuple[int, str]]:
    yield 0, "batch"
    if name in SEQUENCES:
        yield 1, SEQUENCES[name]


def _dynamic(names: list[str], sizes: str) -> Any:
    import torch

    if sizes == "none":
        return None
    dims = {"batch": torch.export.Dim("batch", max=64)}
    if sizes == "all":
        lengths = {SEQUENCES[name] for name in names if name in SEQUENCES}
        dims |= {length: torch.export.Dim(length, max=64) for length in sorted(lengths)}
    entries = [{axis: dims[dim] for axis, dim in _axes(name) if dim in dims} for name in names]
    return {"inputs": tuple(entries)}


def _first_output(model: Any, names: list[str]) -> Any:
    """``model`` with inputs by position and one output."""
    import torch

    class FirstOutput(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> Any:
            return self.model(**dict(zip(names, inputs, strict=True)))[0]

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
