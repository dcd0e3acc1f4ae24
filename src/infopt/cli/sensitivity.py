"""``infopt sensitivity``: which nodes do the damage when a model is quantized."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infopt.cli.answer import Answer
from infopt.cli.options import (
    Command,
    data_option,
    json_option,
    metric_option,
    quiet_option,
    remote_code_option,
    seed_option,
    shape_option,
    task_option,
    threads_option,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infopt.tuning.ranking import Ranking


@click.command(
    cls=Command,
    short_help="Rank the nodes of a model by the damage that each does when quantized.",
    epilog="\b\ninfopt sensitivity model.onnx --data samples/ --top 5\n"
    "infopt optimize model.onnx --precision int8 --data samples/ --max-error 25dB",
)
@click.argument("model")
@click.option("--target", default="onnxruntime:cpu", show_default=True, help="As of optimize.")
@click.option("--precision", default="int8", show_default=True, help="int8 or int4.")
@click.option("--scheme", metavar="OPTIONS", help="How to quantize, as of optimize.")
@click.option("--pipeline", metavar="PASSES", help="Passes to run instead of the target's preset.")
@shape_option
@data_option
@metric_option
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="How many nodes to list; --json has all.",
)
@click.option(
    "-o", "--output", metavar="FILE", help="Write the ranking of all nodes, as JSON, into a file."
)
@click.option(
    "--synthetic-calibration", is_flag=True, help="Without --data, calibrate on made-up inputs."
)
@seed_option
@threads_option
@task_option
@remote_code_option
@json_option
@quiet_option
def command(
    model: str,
    target: str,
    precision: str,
    scheme: str | None,
    pipeline: str | None,
    shapes: tuple[str, ...],
    data: str | None,
    metric: str | None,
    top: int,
    output: str | None,
    synthetic_calibration: bool,
    seed: int,
    threads: int | None,
    task: str | None,
    trust_remote_code: bool,
    quiet: bool,
) -> Answer:
    """Rank the nodes of MODEL by the damage that each does when it alone is quantized.

    The damage is the noise in the outputs, or what is lost of --metric. The worst nodes can be left
    in float: by name with --scheme keep=NAME+NAME of optimize, or as many as it takes with its
    --max-error or --max-drop.
    """
    from infopt import ranking as ranks
    from infopt.cli.progress import Progress
    from infopt.outputs import write_text

    if output is not None and not Path(output).resolve().parent.is_dir():
        raise click.UsageError(f"there is no folder {Path(output).parent} for --output")
    with Progress(quiet=quiet) as progress:
        ranking = ranks.sensitivity(
            model,
            target=target,
            precision=precision,
            scheme=scheme,
            pipeline=pipeline,
            shapes=shapes,
            data=data,
            metric=metric,
            synthetic_calibration=synthetic_calibration,
            seed=seed,
            threads=threads,
            task=task,
            trust_remote_code=trust_remote_code,
            on_event=progress,
        )
    document = ranking.as_dict()
    if output is not None:
        write_text(Path(output), json.dumps(document, indent=2) + "\n")
    return Answer(document, lambda: "" if quiet else view(ranking, top))


def view(ranking: Ranking, top: int) -> RenderableType:
    """The ranking as people read it."""
    from rich.console import Group
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.words import count, decibels

    lost = [">lost"] if ranking.metric is not None else []
    drawn = table(">", "node", "operator", ">SQNR", *lost, ">weights", ">FLOPs")
    for number, damage in enumerate(ranking.nodes[:top], start=1):
        drawn.add_row(
            f"{number}",
            Text(damage.node, "name"),
            damage.operator,
            decibels(damage.sqnr_db, 1),
            *([] if damage.drop is None else [f"{damage.drop:.3g}"]),
            f"{damage.weights:.1%}" if damage.weights else "–",
            "–" if damage.flops is None else f"{damage.flops:.1%}",
        )
    together = f"all together {decibels(ranking.together.sqnr_db, 1)}"
    if ranking.metric is not None and ranking.together.drop is not None:
        together += (
            f"; {ranking.metric} {ranking.original:.4g} in float, {ranking.together.drop:.3g} lost"
        )
    rest = len(ranking.nodes) - top
    notes = [f"each node quantized alone, on {count(len(ranking.samples), 'sample')}; {together}"]
    if rest > 0:
        notes.append(f"{count(rest, 'node')} more, which do less damage (--top)")
    heading = Text.assemble(
        ("Damage", "name"), f"  {count(len(ranking.nodes), 'node')}, the worst first"
    )
    return Group(heading, drawn, *(Text(f"  {note}", "quiet") for note in notes))
