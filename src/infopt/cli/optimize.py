"""``infopt optimize``: a model becomes an engine, and the evidence is shown."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from infopt.cli.answer import Answer
from infopt.cli.options import (
    Command,
    calibration_option,
    data_option,
    expect_option,
    json_option,
    metric_option,
    min_sqnr_option,
    precision_option,
    provider_option,
    quiet_option,
    remote_code_option,
    report_option,
    scheme_option,
    seed_option,
    shape_option,
    synthetic_calibration_option,
    target_option,
    task_option,
    threads_option,
    tolerance_option,
    verbose_option,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infopt.engine import Engine

EXAMPLES = (
    "infopt optimize model.onnx -o model.engine",
    "infopt optimize bert/ --shape input_ids=1..8x16..512 --data samples/",
    "infopt optimize model.onnx --precision int8 --data samples/ --max-error 25dB",
)


@click.command(
    cls=Command,
    short_help="Compile a model into an engine that computes the same.",
    epilog="\b\n" + "\n".join(EXAMPLES),
)
@click.argument("model")
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    help="The engine directory to write.  [default: the model's name with .engine, here]",
)
@target_option
@precision_option
@scheme_option
@shape_option
@click.option(
    "--profile",
    "profiles",
    multiple=True,
    metavar="NAME=1x128,…",
    help="For TensorRT: one of several sets of sizes, each as behind --shape, for which the engine "
    "has kernels of its own, as in input_ids=1x1..512@1x128. Repeatable.",
)
@data_option
@click.option("--pipeline", metavar="PASSES", help="Passes to run instead of the target's preset.")
@click.option(
    "--verify/--no-verify",
    default=True,
    help="Compare the engine with the original.  [default: on]",
)
@click.option(
    "--bench/--no-bench",
    default=None,
    help="Measure the engine beside ONNX Runtime on the original.  [default: as --verify]",
)
@tolerance_option
@min_sqnr_option
@click.option(
    "--max-error",
    metavar="ERROR|DB",
    help="Keep in float the nodes that do the most damage, until no output is further off: "
    "relatively, 0.05, or in decibels, 25dB.",
)
@click.option(
    "--max-drop",
    type=float,
    metavar="DROP",
    help="The same, until no more than this is lost of --metric.",
)
@metric_option
@synthetic_calibration_option
@calibration_option
@expect_option
@click.option("--strict", is_flag=True, help="Fail on everything that could not be shown.")
@click.option("--force", is_flag=True, help="Write the engine even if it computes something else.")
@seed_option
@threads_option
@provider_option
@task_option
@remote_code_option
@report_option
@json_option
@quiet_option
@verbose_option
def command(
    model: str,
    output: str | None,
    target: str,
    precision: str,
    shapes: tuple[str, ...],
    profiles: tuple[str, ...],
    data: str | None,
    pipeline: str | None,
    scheme: str | None,
    verify: bool,
    bench: bool | None,
    tolerance: float | None,
    least_sqnr: float | None,
    max_error: str | None,
    max_drop: float | None,
    metric: str | None,
    synthetic_calibration: bool,
    calibration: str | None,
    expect: str | None,
    strict: bool,
    force: bool,
    seed: int,
    threads: int | None,
    provider_options: dict[str, str],
    task: str | None,
    trust_remote_code: bool,
    report: str | None,
    quiet: bool,
    verbose: bool,
) -> Answer:
    """Compile MODEL into an engine, and show that it computes the same.

    MODEL is an ONNX file, a .pt2 file of torch.export.save, a Hugging Face directory or a hub id.
    """
    from infopt import api
    from infopt.cli.progress import Progress
    from infopt.fusions import parse_expected

    with Progress(quiet=quiet) as progress:
        engine = api.optimize(
            model,
            output,
            target=target,
            precision=precision,
            pipeline=pipeline,
            scheme=scheme,
            shapes=shapes,
            profiles=profiles,
            data=data,
            verify=verify,
            measure=bench,
            tolerance=tolerance,
            least_sqnr=least_sqnr,
            max_error=max_error,
            max_drop=max_drop,
            metric=metric,
            synthetic_calibration=synthetic_calibration,
            calibration=calibration,
            expect=parse_expected(expect or ""),
            strict=strict,
            force=force,
            task=task,
            trust_remote_code=trust_remote_code,
            seed=seed,
            threads=threads,
            provider_options=provider_options,
            report=report,
            on_event=progress,
        )
    return Answer(
        document={
            "engine": str(engine.path),
            "bytes": engine.nbytes,
            "manifest": dataclasses.asdict(engine.manifest),
        },
        view=lambda: "" if quiet else _view(engine, verbose=verbose),
    )


def _view(engine: Engine, *, verbose: bool) -> RenderableType:
    from infopt.cli.report import engine_report

    return engine_report(engine, verbose=verbose)
