"""``infopt baseline``: what an engine is and does, written down for checks to come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from infopt.cli.answer import Answer
from infopt.cli.options import (
    Command,
    data_option,
    json_option,
    metric_option,
    quiet_option,
    reference_option,
    remote_code_option,
    seed_option,
    shape_option,
    signature_option,
    task_option,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infopt.gates.baseline import Baseline
    from infopt.measure.statistics import Ratio


@click.command(
    cls=Command,
    short_help="Write down what an engine is and does, for `infopt check`.",
    epilog="\b\ninfopt baseline model.engine -o baseline.json\n"
    "infopt check model.engine --baseline baseline.json",
)
@click.argument("engine")
@click.option(
    "-o",
    "--output",
    default="baseline.json",
    show_default=True,
    metavar="FILE",
    help="The file to write.",
)
@reference_option
@click.option(
    "--keep-reference",
    is_flag=True,
    help="Write the reference as an ONNX file beside the baseline, so that a check needs no other.",
)
@shape_option
@data_option
@metric_option
@click.option(
    "--threads",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    help="Threads of one operator, here and in checks; 0 is every core, which a busy neighbour "
    "disturbs far more.",
)
@click.option(
    "--cold-start/--no-cold-start",
    "cold_starts",
    default=True,
    help="Start processes of their own, for the time to the first answer and for memory, here and "
    "in checks: some seconds each time.  [default: on]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=120.0,
    show_default=True,
    help="How long measuring may take.",
)
@seed_option
@task_option
@remote_code_option
@signature_option
@json_option
@quiet_option
def command(
    engine: str,
    output: str,
    reference: str | None,
    keep_reference: bool,
    shapes: tuple[str, ...],
    data: str | None,
    metric: str | None,
    threads: int,
    cold_starts: bool,
    seconds: float,
    seed: int,
    task: str | None,
    trust_remote_code: bool,
    trusted: tuple[str, ...],
    quiet: bool,
) -> Answer:
    """Write down what ENGINE is and does: interface, operators, precision, error, speed, size.

    Speed, memory and the time to the first answer are multiples of the reference's, the model that
    the engine was made from on the runtime's defaults, measured in the same run: so a baseline of
    one machine means something on another.
    """
    from infopt import gating
    from infopt.cli.progress import Progress
    from infopt.importers import ImportOptions

    with Progress(quiet=quiet) as progress:
        taken = gating.take_baseline(
            engine,
            output,
            reference=reference,
            keep_reference=keep_reference,
            shapes=shapes,
            data=data,
            metric=metric,
            seed=seed,
            threads=threads,
            cold_starts=cold_starts,
            seconds=seconds,
            trusted=trusted,
            import_options=ImportOptions(task=task, trust_remote_code=trust_remote_code),
            on_event=progress,
        )
    return Answer(taken.document(), lambda: "" if quiet else _view(taken, output))


def _view(taken: Baseline, output: str) -> RenderableType:
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.words import count, size

    facts = taken.facts
    rows = {
        "baseline": output,
        "engine": f"{taken.engine} for {taken.target}, {taken.precision}",
        "reference": taken.reference.place,
        "size": size(facts.size),
        "operators": f"{count(len(facts.operators), 'operator')}, "
        f"{count(sum(facts.operators.values()), 'node')}",
    }
    if facts.speed is not None:
        rows["speed"] = f"{facts.speed.value:.2f}× the reference's ({_interval(facts.speed)})"
    if facts.cold_start is not None:
        cold = facts.cold_start
        rows["cold start"] = f"{1 / cold.value:.2f} of the reference's time"
    if facts.memory is not None:
        rows["memory"] = f"{size(facts.memory.own)} in a process of its own"
    if facts.metric is not None:
        rows[facts.metric.name] = f"{facts.metric.value:.4g}"
    drawn = table("", "")
    for name, value in rows.items():
        drawn.add_row(Text(name, "head"), value)
    for name, reason in facts.unknown.items():
        drawn.add_row(Text(name, "head"), Text(f"not measured: {reason}", "caution"))
    return drawn


def _interval(ratio: Ratio) -> str:
    return f"{ratio.low:.3f}–{ratio.high:.3f}, {ratio.confidence:.1%} confidence"
