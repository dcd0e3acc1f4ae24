"""An ``ExportedProgram`` → Model; its dynamic dimensions are those that it was exported with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import onnx_ir as ir

from infopt.errors import ImportFailed, UsageError, nearest
from infopt.importers import dimensions
from infopt.importers.base import Imported, ImportOptions
from infopt.importers.torch_export import preserved, quiet, tidy, to_onnx
from infopt.importers.torch_module import (
    Call,
    bind,
    bind_arguments,
    check_alike,
    example_sets,
    flattened,
    run,
    sampled,
)
from infopt.ir import queries

if TYPE_CHECKING:
    import torch


def import_program(
    program: torch.export.ExportedProgram, options: ImportOptions, name: str
) -> Imported:
    """Import a program.

    Args:
        program: What ``torch.export.export`` returned; it is not changed.
        options: ``example_inputs`` replaces the program's own; ``dynamic_shapes`` can name its
            dynamic dimensions, not make others dynamic.
        name: What a person would call it.

    Raises:
        UsageError: ``dynamic_shapes`` names a dimension that is fixed in the program.
        DataError: The program does not accept the example inputs.
        ImportFailed: It was exported in training mode, or the exporter gave up.
    """
    import torch

    _refuse_training(program, name)
    module = program.module()
    if options.example_inputs is not None:
        calls = [bind(module, example) for example in example_sets(options.example_inputs)]
    elif program.example_inputs is not None:
        args, kwargs = program.example_inputs
        calls = [bind_arguments(module, args, kwargs)]
    else:
        raise UsageError(f"{name} holds no example inputs; give example_inputs")
    check_alike(name, calls)
    symbols = _symbols(program, calls[0])
    names = _names(symbols, options.dynamic_shapes, name)
    dims = {
        key: {axis: names[symbol] for axis, symbol in axes.items()} for key, axes in symbols.items()
    }
    sets = [call.inputs for call in calls]
    with quiet(), preserved(module), torch.no_grad():
        flat = flattened(module, calls[0].template)
        first = run(flat, sets[0])
        model = to_onnx(name, program)
        tidy(model, list(sets[0]), list(first))
        samples, expected = sampled(flat, sets, dims, first)
    _rename_dimensions(model, names)
    return Imported(
        model=model,
        kind="exported-program",
        name=name,
        details={
            "exporter": f"torch.onnx {torch.__version__}",
            "dynamic": ", ".join(sorted(set(names.values()))) or "none",
        },
        samples=samples,
        expected=expected,
    )


def _refuse_training(program: torch.export.ExportedProgram, name: str) -> None:
    import torch

    aten = torch.ops.aten
    flags = {aten.dropout.default: 2, aten.batch_norm.default: 5}
    for node in program.graph.nodes:
        flag = flags.get(node.target)
        if flag is not None and len(node.args) > flag and node.args[flag] is True:
            raise ImportFailed(
                f"{name} was exported in training mode ({node.target}); "
                "call module.eval() before torch.export.export"
            )


def _symbols(program: torch.export.ExportedProgram, call: Call) -> dict[str, dict[int, str]]:
    """Input name → {axis: torch's symbol for the dynamic dimension}."""
    import torch

    wanted = set(program.graph_signature.user_inputs)
    values = [
        node.meta["val"]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in wanted
    ]
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    return {
        name: {axis: str(dim) for axis, dim in enumerate(tensor.shape) if not isinstance(dim, int)}
        for name, tensor in zip(call.inputs, tensors, strict=True)
    }


def _names(
    symbols: Mapping[str, Mapping[int, str]],
    wanted: Mapping[str, Mapping[int, str]] | None,
    program: str,
) -> dict[str, str]:
    """What each symbol is called."""
    names: dict[str, str] = {}
    for key, axes in (wanted or {}).items():
        if key not in symbols:
            raise UsageError(f"dynamic_shapes names {key!r}{nearest(key, symbols)}, no input")
        for axis, dim in axes.items():
            if axis not in symbols[key]:
                raise UsageError(
                    f"axis {axis} of {key!r} is fixed in {program}; "
                    "name it dynamic in torch.export.export"
                )
            names[symbols[key][axis]] = dim
    for key, axes in symbols.items():
        for axis, symbol in axes.items():
            if symbol not in names:
                default = dimensions.default_name(key, axis)
                names[symbol] = default if default not in names.values() else f"{key}_{axis}"
    return names


def _rename_dimensions(model: ir.Model, names: Mapping[str, str]) -> None:
    def renamed(dim: int | ir.SymbolicDim) -> int | str | None:
        if isinstance(dim, int):
            return dim
        text = dim.value
        return text and re.sub(r"[a-z]+\d+", lambda m: names.get(m[0], m[0]), text)

    for graph in queries.graphs(model):
        outputs = [value for node in graph for value in node.outputs]
        for value in [*graph.inputs, *outputs]:
            if value.shape is not None:
                value.shape = ir.Shape([renamed(dim) for dim in value.shape])
