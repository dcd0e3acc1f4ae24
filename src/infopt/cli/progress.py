"""The live view of a long call: what is done, as lines; what goes on, as one moving line."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from infopt.cli.console import stderr
from infopt.events import Event
from infopt.words import count, duration

_VERBS = {
    "import": ("Importing", "Imported"),
    "pass": ("Optimizing", "Optimized"),
    "calibrate": ("Calibrating", "Calibrated"),
    "compile": ("Compiling", "Compiled"),
    "build": ("Building", "Built"),
    "verify": ("Checking", "Checked"),
    "bisect": ("Searching", "Searched"),
    "rank": ("Ranking", "Ranked"),
    "keep": ("Fitting", "Fitted"),
    "measure": ("Measuring", "Measured"),
    "write": ("Writing", "Wrote"),
}
_MANY_STEPS = {
    "pass": "pass run",
    "calibrate": "sample",
    "build": "step",
    "bisect": "attempt",
    "rank": "run",
    "keep": "engine",
}
"""Stages of many short steps: one line tells of all of them."""
_INDENT = 12


class Progress:
    """A listener for events that draws them on stderr.

    On a terminal the stage that goes on turns at the bottom; elsewhere (a log, a pipe) only
    the line of each finished stage is printed. A stage that an error ended gets no line.

    Args:
        quiet: Draw nothing at all.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._console: Console | None = None if quiet else stderr()
        self._live: Live | None = None
        self._current: Event | None = None
        self._started = 0.0
        self._steps = 0
        self._spinner = Spinner("dots", style="verb")

    def __enter__(self) -> Progress:
        """Start drawing."""
        if self._console is not None and self._console.is_terminal:
            self._live = Live(
                console=self._console,
                transient=True,
                get_renderable=self._moving,
                refresh_per_second=12,
                redirect_stdout=False,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the moving line away; print the last stage if it came to its end."""
        if error is None:
            self._finish()
        if self._live is not None:
            self._live.stop()
        if error is None and self._console is not None:
            self._console.print()

    def __call__(self, event: Event) -> None:
        """Hear of one step."""
        same = self._current is not None and self._current.stage == event.stage
        if not (same and event.stage in _MANY_STEPS):
            self._finish()
            self._started = time.perf_counter()
            self._steps = 0
        self._current = event
        self._steps += 1

    def _finish(self) -> None:
        if self._current is None or self._console is None:
            return
        event = self._current
        step = _MANY_STEPS.get(event.stage)
        detail = count(self._steps, step) if step else event.detail
        self._console.print(
            _line(_verb(event, done=True), detail, time.perf_counter() - self._started),
            soft_wrap=True,
        )
        self._current = None

    def _moving(self) -> RenderableType:
        if self._current is None:
            return Text()
        event = self._current
        detail = event.detail
        if event.done is not None:
            detail += f"  {event.done}/{event.total}" if event.total else f"  {event.done}"
        spent = time.perf_counter() - self._started
        if event.stage in ("calibrate", "rank") and event.done and event.total:
            left = spent * (event.total - self._steps) / self._steps
            detail += f"  {duration(left)} left"
        line = _line(_verb(event, done=False), detail, spent, indent=_INDENT - len("⠋ "))
        # One line whatever happens: a second one would make the screen jump.
        return Text(" ", no_wrap=True, overflow="ellipsis").join([self._dots(), line])

    def _dots(self) -> Text:
        frame = self._spinner.render(time.monotonic())
        return frame if isinstance(frame, Text) else Text(" ")


def _verb(event: Event, *, done: bool) -> str:
    now, past = _VERBS.get(event.stage, (event.stage, event.stage))
    return past if done else now


def _line(verb: str, detail: str, seconds: float, indent: int = _INDENT) -> Text:
    return Text.assemble(
        (f"{verb:>{indent}}", "verb"), f" {detail}  ", (duration(seconds), "quiet")
    )
