"""``infopt inspect``: what a model or an engine is, and what one run of it costs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from infopt.cli.answer import Answer
from infopt.cli.options import Command, expect_option, json_option, shape_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from infopt.engine import TensorSpec
    from infopt.inspection import Inspection
    from infopt.ir.cost import Cost

TOP = 12
"""Operators that are listed one by one; ``--all`` lists the rest too."""


@click.command(cls=Command)
@click.argument("source", metavar="MODEL_OR_ENGINE")
@shape_option
@click.option("--all", "everything", is_flag=True, help="List every operator.")
@click.option("--text", is_flag=True, help="Print the model in ONNX's text form instead.")
@click.option(
    "--fusions",
    is_flag=True,
    help="Clean and raise a copy instead: what is found, what is missed and why, by layer.",
)
@expect_option
@json_option
def command(
    source: str,
    shapes: tuple[str, ...],
    everything: bool,
    text: bool,
    fusions: bool,
    expect: str | None,
) -> Answer:
    """Show inputs, outputs, operators, parameters, FLOPs and memory.

    FLOPs count a multiply-accumulate as two operations. Dynamic dimensions that no --shape
    names are counted at the size that is shown.
    """
    from infopt.evidence.shapes import parse_shapes
    from infopt.inspection import inspect

    if fusions and (shapes or everything or text):
        raise click.UsageError("--fusions goes with --expect and --json only")
    if fusions:
        return _fusions(source, expect)
    if expect is not None:
        raise click.UsageError("--expect needs --fusions")
    found = inspect(source, shapes=parse_shapes(shapes))
    if text:
        import onnx_ir as ir

        form = ir.to_onnx_text(found.model, exclude_initializers=True) + "\n"
        return Answer({"name": found.name, "text": form}, lambda: form)
    return Answer(document(found), lambda: view(found, None if everything else TOP))


def _fusions(source: str, expect: str | None) -> Answer:
    from infopt.cli import raised
    from infopt.fusions import parse_expected
    from infopt.inspection import inspect_fusions

    inspected = inspect_fusions(source, expect=parse_expected(expect or ""))
    return Answer(
        raised.document(inspected),
        lambda: raised.view(inspected),
        exit_code=1 if inspected.fusions.shortfall() else 0,
    )


def document(found: Inspection) -> dict[str, object]:
    """The inspection as ``--json`` prints it."""
    plain = {
        field.name: getattr(found, field.name)
        for field in dataclasses.fields(found)
        if field.name not in ("model", "cost", "engine", "inputs", "outputs")
    }
    plain["inputs"] = [dataclasses.asdict(spec) for spec in found.inputs]
    plain["outputs"] = [dataclasses.asdict(spec) for spec in found.outputs]
    plain["cost"] = None if found.cost is None else dataclasses.asdict(found.cost)
    if found.engine is not None:
        manifest = found.engine.manifest
        plain["manifest"] = {
            f.name: getattr(manifest, f.name)
            for f in dataclasses.fields(manifest)
            if f.name not in ("inputs", "outputs")
        }
    return plain


def view(found: Inspection, top: int | None) -> RenderableType:
    """The inspection as people read it."""
    from rich.console import Group

    parts: list[RenderableType] = [_head(found), "", _face(found)]
    if found.cost is not None:
        parts += ["", _totals(found.cost), "", _operators(found.cost, top)]
    else:
        parts += ["", _counts(found, top)]
    if found.engine is not None:
        from infopt.cli.report import evidence, manifest_summary

        parts += ["", manifest_summary(found.engine), ""]
        parts += evidence(found.engine.manifest.evidence, verbose=False)
    return Group(*parts)


def _head(found: Inspection) -> RenderableType:
    from rich.text import Text

    from infopt.words import count

    opsets = ", ".join(
        str(version) if domain == "ai.onnx" else f"{domain} {version}"
        for domain, version in sorted(found.opsets.items())
    )
    facts = [
        found.kind,
        f"opset {opsets}",
        f"IR version {found.ir_version}",
        count(found.nodes, "node"),
    ]
    if found.producer:
        facts.insert(1, f"from {found.producer}")
    return Text.assemble((found.name, "name"), "\n", (" · ".join(facts), "quiet"))


def _face(found: Inspection) -> RenderableType:
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.words import shape

    drawn = table("", "name", "type", "shape")

    def rows(what: str, specs: Sequence[TensorSpec]) -> None:
        for number, spec in enumerate(specs):
            heading = Text(what if number == 0 else "", "head")
            drawn.add_row(heading, Text(spec.name, "name"), spec.dtype, shape(spec.shape))

    rows("inputs", found.inputs)
    rows("outputs", found.outputs)
    return drawn


def _totals(cost: Cost) -> RenderableType:
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.words import count, quantity, size

    drawn = table("", "")
    at = ", ".join(f"{name} = {number}" for name, number in cost.sizes.items())
    least = "at least " if cost.uncounted else ""
    drawn.add_row(Text("parameters", "head"), quantity(cost.parameters))
    drawn.add_row(
        Text("arithmetic", "head"),
        Text.assemble(
            f"{least}{quantity(cost.flops, 'FLOPs')}, {quantity(cost.macs, 'MACs')}",
            (f"  at {at}" if at else "", "quiet"),
        ),
    )
    drawn.add_row(
        Text("memory", "head"),
        f"{size(cost.weight_bytes)} of weights, "
        f"{size(cost.activation_bytes)} of activations at the peak",
    )
    if cost.uncounted:
        names = ", ".join(cost.uncounted)
        nodes = count(sum(cost.uncounted.values()), "node")
        drawn.add_row(Text("not counted", "caution"), f"{nodes}: {names}")
    return drawn


def _operators(cost: Cost, top: int | None) -> RenderableType:
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.words import quantity, size

    drawn = table("operator", ">nodes", ">FLOPs", ">share", ">parameters", ">writes")
    shown = cost.operators if top is None else cost.operators[:top]
    for row in shown:
        share = row.flops / cost.flops if cost.flops else 0.0
        unknown = row.operator in cost.uncounted
        drawn.add_row(
            Text(row.operator, "name"),
            f"{row.nodes:,}",
            ("≥ " if unknown else "") + (quantity(row.flops) if row.flops else "–"),
            f"{share:.1%}" if row.flops else "",
            quantity(row.parameters) if row.parameters else "–",
            size(row.output_bytes) if row.output_bytes else "–",
        )
    rest = cost.operators[len(shown) :]
    if rest:
        flops = sum(row.flops for row in rest)
        parameters = sum(row.parameters for row in rest)
        drawn.add_row(
            f"{len(rest)} more",
            f"{sum(row.nodes for row in rest):,}",
            quantity(flops) if flops else "–",
            "",
            quantity(parameters) if parameters else "–",
            size(sum(row.output_bytes for row in rest)),
            style="quiet",
        )
    return drawn


def _counts(found: Inspection, top: int | None) -> RenderableType:
    """The operators alone, where the model does not fit the sizes that were tried."""
    from rich.console import Group
    from rich.text import Text

    from infopt.cli.console import table

    drawn = table("operator", ">nodes")
    for name, number in list(found.operators.items())[:top]:
        drawn.add_row(Text(name, "name"), f"{number:,}")
    note = f"FLOPs and memory are not known; give sizes with --shape ({found.cost_unknown})"
    return Group(Text(note, "caution"), "", drawn)
