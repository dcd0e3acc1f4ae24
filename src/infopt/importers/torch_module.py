"""A torch module or exported program → Model, through ``torch.onnx.export(dynamo=True)``.

The exporter shares the weights' memory with the module: nothing is copied, no file is written.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_ir as ir

from infopt.errors import DataError, ImportFailed, SourceError, UsageError
from infopt.importers import dimensions, structure, torch_quantized
from infopt.importers.base import ExampleInputs, Imported, ImportOptions
from infopt.importers.sniff import Kind
from infopt.importers.torch_export import (
    preserved,
    quiet,
    require_torch,
    short,
    tidy,
    to_onnx,
    unique,
)

if TYPE_CHECKING:
    import torch

Inputs = dimensions.Inputs

MIN_DYNAMIC_SIZE = 2
"""torch.export takes a size of 0 or 1 for a constant, so examples are made at least this large."""


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a module: its arguments without the tensors, and the tensors by name."""

    template: object
    inputs: Inputs


@dataclasses.dataclass
class Exported:
    """What came out of the exporter, with samples of what the module itself computes."""

    model: ir.Model
    samples: list[dict[str, np.ndarray]]
    expected: list[dict[str, np.ndarray]]
    dynamic: str
    """The names of the dynamic dimensions, or why there are none."""


def import_torch(source: object, kind: Kind, options: ImportOptions) -> Imported:
    """Import a ``torch.nn.Module``, an ``ExportedProgram``, or the path of a ``.pt2`` file.

    A module is exported as in ``eval()`` and left as it was.

    Args:
        source: The module, program or path.
        kind: Which of these it is.
        options: ``example_inputs``, needed for a module; ``dynamic_shapes`` names the dynamic
            dimensions, else they are inferred (a program has its own).

    Raises:
        UsageError: There are no example inputs, or ``dynamic_shapes`` does not fit them.
        DataError: The module does not accept the example inputs.
        SourceError: The file is damaged or could run code.
        ImportFailed: The exporter gave up.
        UnavailableError: torch is not installed.
    """
    require_torch()
    from infopt.importers import pt2, torch_program

    if kind == "torch":
        return _import_module(cast("torch.nn.Module", source), options)
    if kind == "pt2":
        path = Path(str(source))
        return torch_program.import_program(pt2.load_program(path), options, path.name)
    if kind == "exported-program":
        program = cast("torch.export.ExportedProgram", source)
        return torch_program.import_program(program, options, "ExportedProgram")
    raise SourceError(f"{source} is an engine that infopt made; give the model it was made from")


def _import_module(source: torch.nn.Module, options: ImportOptions) -> Imported:
    import torch

    name = type(source).__name__
    if isinstance(source, torch.jit.ScriptModule):
        raise ImportFailed(f"{name} is TorchScript, which cannot be exported; give the nn.Module")
    torch_quantized.refuse_observers(source)
    if options.example_inputs is None:
        raise UsageError(
            f"to export {name}, infopt must call it: "
            "give example_inputs, a tuple of arguments or a dict of keyword arguments"
        )
    calls = [bind(source, example) for example in example_sets(options.example_inputs)]
    exported = export_module(source, calls, options.dynamic_shapes)
    return Imported(
        model=exported.model,
        kind="torch",
        name=name,
        details={
            "exporter": f"torch.onnx {torch.__version__}",
            "class": f"{type(source).__module__}.{type(source).__qualname__}",
            "dynamic": exported.dynamic,
        },
        samples=exported.samples,
        expected=exported.expected,
    )


def example_sets(examples: object) -> list[ExampleInputs]:
    """The sets of example inputs: a list holds several, a lone tensor is the only argument.

    Raises:
        UsageError: It is something else.
    """
    import torch

    sets = examples if isinstance(examples, list) else [examples]
    result: list[ExampleInputs] = []
    for one in sets:
        if isinstance(one, torch.Tensor | np.ndarray) and sets is not examples:
            result.append((one,))
        elif isinstance(one, tuple | Mapping):
            result.append(one)
        else:
            raise UsageError(
                "example_inputs must be a tuple of arguments, a dict of keyword arguments, or a "
                f"list of several of these, not a {type(one).__name__}"
            )
    if not result:
        raise UsageError("example_inputs is an empty list; give at least one set of inputs")
    return result


def bind(module: torch.nn.Module, example: ExampleInputs) -> Call:
    """``example`` as one call of ``module``, its tensors named after ``forward``'s parameters.

    Raises:
        DataError: ``forward`` does not take such arguments.
    """
    if isinstance(example, tuple):
        return bind_arguments(module, example, {})
    return bind_arguments(module, (), example)


def bind_arguments(
    module: torch.nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> Call:
    """Like :func:`bind`, with positional and keyword arguments together."""
    signature = inspect.signature(module.forward)
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise DataError(
            f"the example inputs do not fit {type(module).__name__}.forward{signature}: {error}"
        ) from None
    parameters = signature.parameters.values()
    names = [p.name for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD]
    rest = next((p.name for p in parameters if p.kind == p.VAR_POSITIONAL), "")
    names += [f"{rest}_{index}" for index in range(len(args) - len(names))]

    args = tuple(structure.replace(value, _leaf) for value in args)
    order = [p.name for p in parameters if p.name in kwargs]
    order += [name for name in kwargs if name not in order]
    kwargs = {name: structure.replace(kwargs[name], _leaf) for name in order}
    template, tensors = structure.take_out((args, kwargs))
    if not tensors:
        raise DataError(f"no tensor stands among the example inputs of {type(module).__name__}")
    paths = [
        path
        for name, value in [*zip(names, args, strict=False), *kwargs.items()]
        for path, leaf in structure.leaves(value, name)
        if not isinstance(leaf, structure.CONSTANTS)
    ]
    return Call(template, dict(zip(unique(paths), tensors, strict=True)))


def _leaf(leaf: object) -> object:
    import torch

    if isinstance(leaf, np.ndarray | np.generic):
        return torch.tensor(leaf)  # a copy: the array may be read-only
    if isinstance(leaf, (torch.Tensor, *structure.CONSTANTS)):
        return leaf
    raise DataError(
        f"a {type(leaf).__name__} stands among the example inputs; only tensors, arrays, numbers, "
        "strings, and dicts, lists and tuples of them can"
    )


def export_module(
    module: torch.nn.Module,
    calls: Sequence[Call],
    dynamic_shapes: Mapping[str, Mapping[int, str]] | None,
    prefix: str = "inner.",
) -> Exported:
    """Export ``module`` in eval mode; it is left as it was, whatever happens.

    Args:
        module: The module.
        calls: Example calls, alike but for the sizes of tensors. The first one is exported.
        dynamic_shapes: The dynamic dimensions; ``None`` infers them from the calls.
        prefix: What to cut from the names of weights and modules; ``inner`` is the module.
    """
    import torch

    name = type(module).__name__
    sets = [call.inputs for call in calls]
    check_alike(name, calls)
    if dynamic_shapes is None:
        dims = dimensions.consistent(dimensions.inferred(sets), sets)
    else:
        dims = dimensions.chosen(dynamic_shapes, sets[0])
        dimensions.sizes_of(sets, dims)
    with quiet(), preserved(module), torch.no_grad():
        module.eval()
        device = next((p.device for p in module.parameters()), torch.device("cpu"))
        # Contiguous, since torch would write the strides of others into the graph.
        sets = [{key: t.to(device).contiguous() for key, t in one.items()} for one in sets]
        flat = flattened(module, calls[0].template)
        first = run(flat, sets[0])
        note = ", ".join(sorted({dim for axes in dims.values() for dim in axes.values()}))
        try:
            model = _export(flat, sets[0], dims)
        except ImportFailed as error:
            if dynamic_shapes is not None or len(sets) > 1 or not note:
                raise
            # Nobody asked for the dynamic batch: a model of one fixed size is still a model.
            dims = {key: {} for key in dims}
            model = _export(flat, sets[0], dims)
            note = f"none, since {error}"
        tidy(model, list(sets[0]), list(first), prefix)
        samples, expected = sampled(flat, sets, dims, first)
    return Exported(model, samples, expected, note or "none")


def check_alike(name: str, calls: Sequence[Call]) -> None:
    """Check that the calls differ in the sizes of tensors at most.

    Raises:
        DataError: They differ in more.
    """
    first = calls[0]
    for call in calls[1:]:
        kinds = [(key, t.dtype, t.ndim) for key, t in call.inputs.items()]
        if call.template != first.template or kinds != [
            (key, t.dtype, t.ndim) for key, t in first.inputs.items()
        ]:
            raise DataError(
                f"the sets of example inputs of {name} differ in more than the sizes of tensors; "
                "give each the same arguments, types and ranks"
            )


def flattened(module: torch.nn.Module, template: object) -> torch.nn.Module:
    """``module`` taking its tensors one by one and returning a tuple of them."""
    import torch

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def named(self, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
            args, kwargs = cast(Any, structure.put_back(template, tensors))
            return structure.named_outputs(self.inner(*args, **kwargs))

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(self.named(*tensors).values())

    flat = Flat()
    flat.training = False
    return flat


def run(flat: Any, inputs: Inputs) -> dict[str, torch.Tensor]:
    """What the module itself returns, by output name; its buffers keep their values.

    Raises:
        DataError: The module raised an exception.
        ImportFailed: It returned something that no graph can return.
    """
    name = type(flat.inner).__name__
    with preserved(flat.inner):
        try:
            outputs = cast("dict[str, torch.Tensor]", flat.named(*inputs.values()))
        except Exception as error:
            if isinstance(error, TypeError) and str(error).startswith("it returns a "):
                raise ImportFailed(f"cannot export {name}: {error}; return tensors only") from None
            raise DataError(
                f"{name} itself fails on the example inputs: {short(error)}; "
                "give inputs that the module accepts"
            ) from error
    if not outputs:
        raise ImportFailed(f"cannot export {name}: it returns no tensor")
    return outputs


def _export(flat: torch.nn.Module, inputs: Inputs, dims: dimensions.Dims) -> ir.Model:
    inputs = _telling(flat, inputs, dims)
    shapes = (tuple(dims[name] or None for name in inputs),)
    name = type(flat.inner).__name__
    return to_onnx(name, flat, tuple(inputs.values()), dynamic_shapes=shapes)


def _telling(flat: torch.nn.Module, inputs: Inputs, dims: dimensions.Dims) -> Inputs:
    """``inputs`` with dynamic dimensions of at least two, and of different sizes if possible.

    torch takes the branch that the example takes: a square image would fix height = width.
    """
    (sizes,) = dimensions.sizes_of([inputs], dims)
    different: dict[str, int] = {}
    for dim, size in sizes.items():
        different[dim] = max(size, MIN_DYNAMIC_SIZE)
        while different[dim] in list(different.values())[:-1]:
            different[dim] += 1
    if different != sizes:
        resized = dimensions.resized(inputs, dims, different)
        with contextlib.suppress(DataError):
            run(flat, resized)
            return resized
    enough = {dim: max(size, MIN_DYNAMIC_SIZE) for dim, size in sizes.items()}
    return dimensions.resized(inputs, dims, enough)


def _static_shapes(inputs: Inputs, dims: dimensions.Dims) -> list[list[int | None]]:
    return [
        [None if axis in dims[name] else size for axis, size in enumerate(tensor.shape)]
        for name, tensor in inputs.items()
    ]


def sampled(
    flat: torch.nn.Module,
    sets: Sequence[Inputs],
    dims: dimensions.Dims,
    first: dict[str, torch.Tensor],
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, np.ndarray]]]:
    """The given inputs and, where they show one size only, larger ones; with the results."""
    sets = [one for one in sets if _static_shapes(one, dims) == _static_shapes(sets[0], dims)]
    runs = [(sets[0], first)] + [(inputs, run(flat, inputs)) for inputs in sets[1:]]
    sizes = dimensions.sizes_of(sets, dims)
    if sizes[0] and all(other == sizes[0] for other in sizes):
        larger = (
            {dim: size + 1 for dim, size in sizes[0].items()},
            # Not every size suits every module: one that halves an image may want even ones.
            {dim: size * 2 for dim, size in sizes[0].items()},
        )
        for wanted in larger:
            inputs = dimensions.resized(sets[0], dims, wanted)
            with contextlib.suppress(DataError):
                runs.append((inputs, run(flat, inputs)))
                break
    to_numpy = structure.to_numpy
    return (
        [{name: to_numpy(tensor) for name, tensor in inputs.items()} for inputs, _ in runs],
        [{name: to_numpy(tensor) for name, tensor in outputs.items()} for _, outputs in runs],
    )
