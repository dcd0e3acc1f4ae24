"""``infopt check``: is an engine still as good as its baseline?"""

from __future__ import annotations

from collections.abc import Callable
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
    reference_option,
    remote_code_option,
    report_option,
    signature_option,
    task_option,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

    from infopt.gates.findings import Check

STYLES = {"better": "good", "same": "good", "worse": "bad", "inconclusive": "caution"}


@click.command(
    cls=Command,
    short_help="Check an engine or a model against a baseline.",
    epilog="\b\ninfopt check model.engine --baseline baseline.json --max-slowdown 5%\n"
    "infopt check model.engine --baseline baseline.json --junit gate.xml --sarif gate.sarif",
)
@click.argument("subject", metavar="ENGINE_OR_MODEL")
@click.option("--baseline", required=True, metavar="FILE", help="A file of `infopt baseline`.")
@reference_option
@data_option
@metric_option
@click.option(
    "--max-slowdown",
    default="5%",
    show_default=True,
    metavar="SHARE",
    help="How much longer a call may take, as a multiple of the reference's.",
)
@click.option(
    "--max-error",
    metavar="ERROR|DB",
    help="How far an output may be from the reference's: relatively, 0.05, or in decibels, 25dB. "
    " [default: twice the baseline's error]",
)
@click.option("--max-drop", type=float, metavar="DROP", help="How much of --metric may be lost.")
@click.option(
    "--max-size-growth",
    default="5%",
    show_default=True,
    metavar="SHARE",
    help="How much larger all files may be.",
)
@click.option(
    "--max-memory-growth",
    default="20%",
    show_default=True,
    metavar="SHARE",
    help="How much more memory a fresh process may need.",
)
@click.option(
    "--max-cold-start-growth",
    default="25%",
    show_default=True,
    metavar="SHARE",
    help="How much longer a fresh process may take to its first answer.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="FINDING",
    help="Tell this finding, and do not count it. Repeatable.",
)
@click.option(
    "--inconclusive",
    type=click.Choice(["fail", "pass"]),
    default="fail",
    show_default=True,
    help="Whether what could not be decided fails the check.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=20.0,
    show_default=True,
    help="How long the check may take.",
)
@click.option("--junit", metavar="FILE", help="Write the findings as JUnit XML.")
@click.option("--sarif", metavar="FILE", help="Write the findings as SARIF 2.1.0.")
@click.option("--markdown", metavar="FILE", help="Append the findings as Markdown to a file.")
@report_option
@task_option
@remote_code_option
@signature_option
@json_option
@quiet_option
def command(
    subject: str,
    baseline: str,
    reference: str | None,
    data: str | None,
    metric: str | None,
    max_slowdown: str,
    max_error: str | None,
    max_drop: float | None,
    max_size_growth: str,
    max_memory_growth: str,
    max_cold_start_growth: str,
    allow: tuple[str, ...],
    inconclusive: str,
    seconds: float,
    junit: str | None,
    sarif: str | None,
    markdown: str | None,
    report: str | None,
    task: str | None,
    trust_remote_code: bool,
    trusted: tuple[str, ...],
    quiet: bool,
) -> Answer:
    """Hold ENGINE_OR_MODEL against a baseline: is anything worse?

    Compared are names, types and shapes of inputs and outputs, operators, fusions, the precision of
    products, the error of the outputs, a metric, size, and, as multiples of the reference's, the
    time of a call, the time to the first answer and memory. Exits with 1 if anything is worse.
    """
    from infopt import gating
    from infopt.cli.progress import Progress
    from infopt.gates import junit as as_junit
    from infopt.gates import markdown as as_markdown
    from infopt.gates import sarif as as_sarif
    from infopt.importers import ImportOptions

    for file in filter(None, (junit, sarif, markdown)):
        if not Path(file).resolve().parent.is_dir():
            raise click.UsageError(f"there is no folder {Path(file).parent} for {file}")
    with Progress(quiet=quiet) as progress:
        found = gating.check(
            subject,
            baseline,
            reference=reference,
            data=data,
            metric=metric,
            max_slowdown=max_slowdown,
            max_error=max_error,
            max_drop=max_drop,
            max_size_growth=max_size_growth,
            max_memory_growth=max_memory_growth,
            max_cold_start_growth=max_cold_start_growth,
            allow=allow,
            lenient=inconclusive == "pass",
            seconds=seconds,
            trusted=trusted,
            report=report,
            import_options=ImportOptions(task=task, trust_remote_code=trust_remote_code),
            on_event=progress,
        )
    _write(junit, lambda: as_junit.render(found))
    _write(sarif, lambda: as_sarif.render(found))
    _write(markdown, lambda: as_markdown.render(found), mode="a")
    return Answer(found.as_dict(), lambda: "" if quiet else view(found), int(not found.holds))


def _write(file: str | None, render: Callable[[], str], mode: str = "w") -> None:
    from infopt.errors import StorageError

    if file is None:
        return
    try:
        with Path(file).open(mode, encoding="utf-8", errors="replace") as stream:
            stream.write(render())
    except OSError as error:
        raise StorageError(f"{file} cannot be written: {error.strerror}") from None


def view(found: Check) -> RenderableType:
    """The findings as people read them."""
    from rich.console import Group
    from rich.text import Text

    from infopt.cli.console import table
    from infopt.words import duration

    drawn = table("", "", "", ">was", ">now", ">allowed", "")
    for finding in found.findings:
        style = "quiet" if finding.allowed else STYLES[finding.verdict]
        verdict = f"{finding.verdict}, allowed" if finding.allowed else finding.verdict
        drawn.add_row(
            "",
            Text(finding.name, "name"),
            Text(verdict, style),
            finding.was,
            finding.now,
            finding.limit,
            finding.sentence,
        )
    title = Text.assemble(
        ("Gate", "name"), "  ", Text(found.sentence, "good" if found.holds else "bad")
    )
    end = f"  {found.subject} against {found.baseline}, in {duration(found.seconds)}"
    notes = [Text(f"  {note}", "caution") for note in found.notes]
    return Group(title, drawn, *notes, Text(end, "quiet"))
