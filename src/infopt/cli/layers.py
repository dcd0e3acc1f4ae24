"""Two models layer by layer, as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from infopt.cli.console import table
from infopt.sentences import ELSEWHERE
from infopt.words import count, decibels, figure

ABSORBED = "differ, but nothing behind them does: passes have moved a bias or a scale past them"


def view(document: Mapping[str, Any], *, verbose: bool) -> Iterator[RenderableType]:
    """The layers, or with ``verbose`` every value, and where both models part ways."""
    found = document["per_layer"]
    tensors = found["tensors"]
    if not tensors:
        why = f"not measured: {'; '.join(found['notes'])}"
        yield Text.assemble(("Layer by layer", "name"), "  ", (why, "caution"))
        return
    note = f"{len(tensors):,} of {count(found['computed'], 'value')} inside were matched"
    yield Text.assemble(("Layer by layer", "name"), f"  {note}")
    yield _tensors(tensors) if verbose else _layers(found["layers"])
    yield from _verdict(document)
    absorbed = sum(tensor["absorbed"] for tensor in tensors)
    if absorbed:
        yield Text(f"  {count(absorbed, 'value')} {ABSORBED}", "quiet")
    yield Text(f"  {_how(document)}", "quiet")
    for text in found["notes"]:
        yield Text(f"  {text}", "quiet")


def _how(document: Mapping[str, Any]) -> str:
    found = document["per_layer"]
    samples = count(len(found["samples"]), "sample")
    parts = count(found["parts"][0], "part")
    return f"as the graphs say, runtime optimizations off, in {parts}, on {samples}"


def _verdict(document: Mapping[str, Any]) -> Iterator[RenderableType]:
    first, limit = document["per_layer"]["first"], f"{document['per_layer']['tolerance']:.2g}"
    if first is not None:
        error = first["difference"]
        yield Text.assemble(
            "  they part ways at ",
            (first["node"] or first["value"], "bad"),
            f" ({first['operator']}): relative error {figure(float(error['max_relative']))}, "
            f"{decibels(float(error['sqnr_db']))}",
        )
    elif document["holds"]:
        yield Text(f"  nowhere beyond {limit}", "good")
    else:
        text = f"  nothing inside is beyond {limit}: the runtime's own optimizations are guilty"
        yield Text(text, "bad")


def _layers(layers: list[Mapping[str, Any]]) -> RenderableType:
    drawn = table("", "layer", ">values", ">max rel", ">SQNR")
    for row in layers:
        drawn.add_row(
            "",
            Text(row["layer"] or ELSEWHERE, "name" if row["layer"] else "quiet"),
            f"{row['tensors']:,}",
            *_errors(row, row["diverges"]),
        )
    return drawn


def _tensors(tensors: list[Mapping[str, Any]]) -> RenderableType:
    drawn = table("", "value", "node", "operator", "matched by", ">max rel", ">SQNR", "")
    for row in tensors:
        drawn.add_row(
            "",
            Text(row["value"], "name"),
            row["node"],
            row["operator"],
            row["how"],
            *_errors(row["difference"], row["diverges"]),
            "moved" if row["absorbed"] else "diverges" if row["diverges"] else "",
        )
    return drawn


def _errors(row: Mapping[str, Any], diverges: bool) -> tuple[Text, str]:
    style = "bad" if diverges else ""
    return Text(figure(float(row["max_relative"])), style), decibels(float(row["sqnr_db"]))
