"""Around the exporter: quiet, the graph tidied, failures explained, nothing left changed."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import onnx_ir as ir

from infopt.errors import ImportFailed, UnavailableError
from infopt.importers.scopes import module_path
from infopt.ir import queries
from infopt.ir.opset import OPSET

if TYPE_CHECKING:
    import torch


def require_torch() -> None:
    """Check that torch can be imported.

    Raises:
        UnavailableError: It is not installed.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f'importing from torch needs torch ({error}); pip install "infopt[torch]"'
        ) from None


def to_onnx(name: str, source: object, args: tuple[object, ...] = (), **options: Any) -> ir.Model:
    """Run torch's exporter.

    Raises:
        ImportFailed: It gave up; the message holds its first reason.
    """
    import torch

    from infopt.importers import torch_quantized

    try:
        program = torch.onnx.export(
            cast(Any, source),
            args,
            dynamo=True,
            # torch's translations go up to opset 23 (Gelu 20, GroupNormalization 21, Attention
            # and RMSNormalization 23), and each of those operators is the same in 24.
            opset_version=OPSET,
            # Folds the scaffolding of the translation: BERT has 191 nodes instead of 510.
            optimize=True,
            verbose=False,
            custom_translation_table=dict(torch_quantized.translations()),
            **options,
        )
    except Exception as error:
        raise ImportFailed(f"torch.onnx cannot export {name}: {explain(error)}") from error
    if program is None:
        raise ImportFailed(f"torch.onnx returned nothing for {name}")
    if program.exported_program is not None:
        torch_quantized.store_integers(program.model, program.exported_program)
    return program.model


# After the export ---------------------------------------------------------------------------


def tidy(model: ir.Model, inputs: Sequence[str], outputs: Sequence[str], prefix: str = "") -> None:
    """Give the graph's inputs and outputs the names that people know, and nodes their module.

    Args:
        model: What torch's exporter made.
        inputs: The names of the graph's inputs, in order.
        outputs: The names of its outputs, in order.
        prefix: What to cut from the names of weights and modules.
    """
    graph = model.graph
    if len(graph.inputs) != len(inputs) or len(graph.outputs) != len(outputs):
        raise ImportFailed(
            f"the exported graph has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs "
            f"where the module has {len(inputs)} and {len(outputs)}; "
            "a module that changes its own buffers in forward() cannot be exported"
        )
    _own_outputs(graph)
    _rename(graph, inputs, unique(outputs, taken=inputs), prefix)
    for root in queries.graphs(model):
        root.metadata_props.clear()  # holds whole signatures, and paths of the user's machine
        for value in root.inputs:
            value.metadata_props.clear()
        for node in root:
            path = module_path(node).removeprefix(prefix.rstrip(".")).removeprefix(".")
            if path and node.name:
                node.name = f"{path}/{node.name}"
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()
    for value in graph.initializers.values():
        value.metadata_props.clear()


def _own_outputs(graph: ir.Graph) -> None:
    """Put an Identity before each output that is an input, a weight, or another output too."""
    seen: set[ir.Value] = set()
    for index, value in enumerate(graph.outputs):
        if value in seen or value.is_graph_input() or value.is_initializer():
            node = ir.node("Identity", [value])
            node.outputs[0].type = value.type
            node.outputs[0].shape = value.shape
            graph.append(node)
            graph.outputs[index] = node.outputs[0]
        seen.add(graph.outputs[index])


def _rename(graph: ir.Graph, inputs: Sequence[str], outputs: Sequence[str], prefix: str) -> None:
    renamed = dict(zip([*graph.inputs, *graph.outputs], [*inputs, *outputs], strict=True))
    taken = set(renamed.values())
    values = [*graph.initializers.values(), *(v for n in graph.all_nodes() for v in n.outputs)]
    for value in values:
        if value in renamed or value.name is None:
            continue
        name = value.name.removeprefix(prefix)
        while name in taken:
            name += "_"
        taken.add(name)
        renamed[value] = name
    # In two steps, since an initializer cannot take a name that another one still has.
    for index, value in enumerate(renamed):
        value.name = f"\0{index}"
    for value, name in renamed.items():
        value.name = name


def unique(names: Sequence[str], taken: Sequence[str] = ()) -> list[str]:
    """``names``, made different from each other and from ``taken``."""
    result: list[str] = []
    used = set(taken)
    for name in names:
        candidate, number = name, 1
        while candidate in used:
            number += 1
            candidate = f"{name}_{number}"
        used.add(candidate)
        result.append(candidate)
    return result


# Around the export --------------------------------------------------------------------------


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter's warnings, logs and prints from the user's terminal."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            logging.disable(level)


@contextlib.contextmanager
def preserved(module: torch.nn.Module) -> Iterator[None]:
    """Give back modes, attributes, buffers, gradients and random state as they were."""
    import torch

    # Attributes, and the tables among them: parameters, buffers, submodules, hooks.
    attributes = [one.__dict__ for one in module.modules()]
    nested = [value for one in attributes for value in one.values() if isinstance(value, dict)]
    tables = [(table, dict(table)) for table in attributes + nested]
    parameters = [(p, p.requires_grad, p.grad) for p in module.parameters()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    devices = sorted({p.device.index for p, *_ in parameters if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            for table, saved in tables:
                table.clear()
                table.update(saved)
            for parameter, requires_grad, grad in parameters:
                parameter.requires_grad_(requires_grad)
                parameter.grad = grad
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)


# What went wrong ----------------------------------------------------------------------------

_HINTS: tuple[tuple[str, str], ...] = (
    (
        r"fused_moving_avg_obs",
        "its observers are still there; convert it first, as convert_pt2e of torchao does",
    ),
    (
        r"data-dependent|GuardOnDataDependent|Could not guard",
        "forward() decides by the values of tensors; use torch.where or torch.cond instead",
    ),
    (
        r"No ONNX function found|No decompositions registered|Unsupported FX nodes",
        "ONNX has no translation of this operator; compute it with others",
    ),
    (
        r"[Cc]onstraints? violated|specialize",
        "the module fixes this size; leave the dimension out of dynamic_shapes",
    ),
)


def explain(error: BaseException) -> str:
    """The first reason of torch's exporter, in one line, and what to do about it."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    texts = [f"{type(link).__name__}: {link}" for link in chain]
    fixed = re.search(r"inferred a static shape of (\d+)", "\n".join(texts))
    if fixed:
        return (
            f"a dimension that should be dynamic can only be {fixed[1]} in this module; "
            "leave it out of dynamic_shapes"
        )
    hint = next((hint for pattern, hint in _HINTS if any(re.search(pattern, t) for t in texts)), "")
    return short(chain[-1]) + (f"; {hint}" if hint else "")


def short(error: BaseException, limit: int = 240) -> str:
    """An exception in one line of at most ``limit`` characters."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # "Constraints violated (batch)!" says what happened, the first line below says where.
    line = " ".join(lines[:2]) if lines and len(lines[0]) < 120 else (lines or [""])[0]
    line = f"{type(error).__name__}: {line}" if line else type(error).__name__
    return line if len(line) <= limit else line[: limit - 1] + "…"
