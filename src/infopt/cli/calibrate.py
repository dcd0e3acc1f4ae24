"""``infopt calibrate``: a model is observed on data, and what was seen is kept and shown."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from infopt.cli.answer import Answer
from infopt.cli.options import (
    Command,
    json_option,
    quiet_option,
    remote_code_option,
    seed_option,
    shape_option,
    task_option,
    verbose_option,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from infopt.quant.calibration import Calibration
    from infopt.recorded import Calibrated, Seen

SHOWN = 20
"""Values that are listed one by one, those with the largest numbers; the rest under ``-v``."""

EXAMPLES = (
    "infopt calibrate model.onnx --data samples/ -o model.npz",
    "infopt optimize model.onnx --precision int8 --calibration model.npz",
    "infopt calibrate --merge part1.npz part2.npz -o all.npz",
)


@click.command(
    cls=Command,
    short_help="Observe a model on data, for one engine or for many.",
    epilog="\b\n" + "\n".join(EXAMPLES),
)
@click.argument("subjects", nargs=-1, required=True, metavar="MODEL")
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="The file to write.  [default: the model's name with .calibration.npz, here]",
)
@click.option("--target", default="onnxruntime:cpu", show_default=True, help="Of the engine.")
@click.option("--precision", default="int8", show_default=True, help="Of the engine.")
@click.option("--scheme", metavar="OPTIONS", help="How the engine will be quantized.")
@click.option("--pipeline", metavar="PASSES", help="The engine's passes, instead of the preset.")
@shape_option
@click.option(
    "--data",
    metavar="NPZ|DIR|MODULE:FUNC",
    help="Real inputs: an .npz file, a folder of them, or a function that yields dictionaries.",
)
@click.option(
    "--synthetic-calibration", is_flag=True, help="Without --data, observe on made-up inputs."
)
@click.option(
    "--shard",
    is_flag=True,
    help="The data is a part: observe what comes next, to be merged with the other parts.",
)
@click.option(
    "--continue-from",
    metavar="FILE",
    help="Take what this calibration holds as it is; observe what comes after it.",
)
@click.option(
    "--merge", is_flag=True, help="Merge calibrations of parts, given instead of MODEL, into -o."
)
@seed_option
@task_option
@remote_code_option
@json_option
@quiet_option
@verbose_option
def command(
    subjects: tuple[str, ...],
    output: str | None,
    target: str,
    precision: str,
    scheme: str | None,
    pipeline: str | None,
    shapes: tuple[str, ...],
    data: str | None,
    synthetic_calibration: bool,
    shard: bool,
    continue_from: str | None,
    merge: bool,
    seed: int,
    task: str | None,
    trust_remote_code: bool,
    quiet: bool,
    verbose: bool,
) -> Answer:
    """Run MODEL on data and keep what `infopt optimize --calibration` needs to know of it.

    Target, precision, scheme and pipeline are those that the engine is to have: they say which
    values are observed, and of which form of the model.
    """
    from infopt import calibrating
    from infopt.cli.progress import Progress
    from infopt.errors import UsageError

    if merge:
        if output is None:
            raise UsageError("--merge needs -o FILE")
        if data is not None or continue_from is not None or shard or synthetic_calibration:
            raise UsageError("--merge takes calibrations that there are: nothing is observed")
        found = calibrating.merge_calibrations(subjects, output)
        then = f"infopt optimize MODEL … --calibration {output}"
        return _answer(found, then, quiet=quiet, verbose=verbose)
    if len(subjects) > 1:
        raise UsageError("one model at a time; to merge calibrations, say --merge")
    with Progress(quiet=quiet) as progress:
        found = calibrating.calibrate(
            subjects[0],
            output,
            data=data,
            target=target,
            precision=precision,
            pipeline=pipeline,
            scheme=scheme,
            shapes=shapes,
            synthetic_calibration=synthetic_calibration,
            continue_from=continue_from,
            shard=shard,
            seed=seed,
            task=task,
            trust_remote_code=trust_remote_code,
            on_event=progress,
        )
    if shard:
        then = f"infopt calibrate -o FILE … --merge {found.path}"
    else:
        words = {"target": target, "precision": precision, "scheme": scheme, "pipeline": pipeline}
        words["calibration"] = str(found.path)
        options = [word for key, value in words.items() if value for word in (f"--{key}", value)]
        then = shlex.join(["infopt", "optimize", subjects[0], *options])
    return _answer(found, then, quiet=quiet, verbose=verbose)


def _answer(found: Calibrated, then: str, *, quiet: bool, verbose: bool) -> Answer:
    return Answer(found.as_dict(), lambda: "" if quiet else _view(found, then, verbose=verbose))


def _view(found: Calibrated, then: str, *, verbose: bool) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.words import count, size

    parts: list[RenderableType] = []
    for at, stage in enumerate(found.stages, 1):
        place = f" {at}" if len(found.stages) > 1 else ""
        parts += [*_stage(stage, f"What was seen{place}", verbose=verbose), ""]
    if found.left_out:
        parts += [
            Text(
                f"{count(found.left_out, 'later calibration')} left out: what they were observed "
                "on depends on the first, which is another now. Go on with every part: infopt "
                f"calibrate MODEL --data PART --shard --continue-from {found.path}",
                "caution",
            ),
            "",
        ]
    drawn = table("", "")
    drawn.add_row(Text("How large", "name"), size(found.path.stat().st_size))
    drawn.add_row(Text("Go on", "name"), then)
    parts.append(drawn)
    return Group(*parts)


def _stage(stage: Calibration, title: str, *, verbose: bool) -> Iterator[RenderableType]:
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.recorded import seen
    from infopt.words import count

    rows = sorted(seen(stage), key=_weight, reverse=True)
    made_up = ", made up: real inputs may reach further" if stage.synthetic else ""
    yield Text.assemble(
        (title, "name"),
        f"  {count(len(rows), 'value')} on {count(stage.samples, 'sample')}",
        (made_up, "caution"),
    )
    drawn = table("", "value", "observed", ">from", ">to", ">zeros", ">not finite")
    for row in rows if verbose else rows[:SHOWN]:
        drawn.add_row(
            "",
            Text(row.value, "name"),
            ", ".join(row.kinds),
            _number(row.low),
            _number(row.high),
            "–" if row.zeros is None else f"{row.zeros:.1%}",
            Text(f"{row.nonfinite:,}", "bad") if row.nonfinite else "·",
        )
    yield drawn
    if len(rows) > SHOWN and not verbose:
        yield Text(f"  and {len(rows) - SHOWN:,} more (-v shows them)", "quiet")


def _weight(row: Seen) -> tuple[int, float]:
    """What is not finite comes first, then what reaches furthest."""
    return row.nonfinite, max(abs(row.low or 0.0), abs(row.high or 0.0))


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
