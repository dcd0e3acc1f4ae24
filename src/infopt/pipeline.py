"""Pipeline: an ordered list of passes, with a text form that parses back and a trace.

The text form::

    lift-constants,repeat(fold-constants{limit=4096},eliminate-dead-code),merge-chains

``repeat(…)`` runs its passes until none of them changes anything. ``calibrate`` observes the model
on data: whatever the passes behind it, up to the next one, want to know of its values. A text with
other characters than letters, digits and ``_.+-`` stands in quotes, as in JSON::

    quantize-static{keep="/stem/Conv+/head/Gemm"}
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

import onnx_ir as ir

from infopt.errors import InfoptError, PipelineError, nearest
from infopt.events import Event, Listener
from infopt.ir import queries
from infopt.passes import PASSES
from infopt.passes.base import WORD, Change, Pass, Refusal
from infopt.passes.observed import attach
from infopt.quant.calibration import Calibration, Request

_Item = TypeVar("_Item")

MAX_ROUNDS = 10
"""A ``repeat`` that still changes the model after so many rounds is a defect of its passes."""


@dataclasses.dataclass(frozen=True)
class Repeat:
    """Passes that are run in turn until none of them changes anything."""

    passes: tuple[Pass, ...]

    def __str__(self) -> str:
        """Return the text form."""
        return f"repeat({','.join(map(str, self.passes))})"


@dataclasses.dataclass(frozen=True)
class Calibrate:
    """Where the model is observed on data, for the passes that follow."""

    def __str__(self) -> str:
        """Return the text form."""
        return "calibrate"


Step = Pass | Repeat | Calibrate

Observer = Callable[[ir.Model, Collection[Request]], Calibration]
"""Runs a model on data; returns what was asked of its values."""


@dataclasses.dataclass(frozen=True)
class PassRun:
    """What one run of one pass did: the unit of the trace, and of bisection."""

    spec: str
    """The pass as it is written in the pipeline."""
    seconds: float
    nodes_before: int
    nodes_after: int
    changes: tuple[Change, ...]
    refusals: tuple[Refusal, ...]


@dataclasses.dataclass(frozen=True)
class Stop:
    """Where to stop early: after ``runs`` whole pass runs and ``changes`` of the next one."""

    runs: int
    changes: int = 0


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Ordered passes."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        """Return the text form; :meth:`parse` reads it back to an equal pipeline."""
        return ",".join(map(str, self.steps))

    @staticmethod
    def parse(text: str) -> Pipeline:
        """Read the text form.

        Raises:
            PipelineError: The text does not parse, or names an unknown pass or option.
        """
        return Pipeline(_Parser(text).steps())

    def passes(self) -> Iterator[Pass]:
        """Each pass in order, those inside a ``repeat`` once."""
        for step in self.steps:
            yield from passes_of(step)

    def calibrates(self) -> bool:
        """Whether any step observes the model on data."""
        return any(isinstance(step, Calibrate) for step in self.steps)

    def observing(self) -> slice:
        """The steps that it takes to observe all that is observed: up to the last ``calibrate``."""
        at = [index for index, step in enumerate(self.steps) if isinstance(step, Calibrate)]
        return slice(at[-1] + 1 if at else 0)

    def run(
        self,
        model: ir.Model,
        *,
        stop: Stop | None = None,
        steps: slice = slice(None),
        progress: Callable[[Pass], None] = lambda _: None,
        observe: Observer | None = None,
    ) -> list[PassRun]:
        """Run the passes on ``model``, in place.

        Args:
            model: The model to change.
            stop: Stop early; the bisection's handle.
            steps: Which steps to run; a ``calibrate`` knows what those behind want, run or not.
            progress: Called before each run of a pass.
            observe: Called where the pipeline calibrates.

        Returns:
            The trace: one entry for each run of a pass.

        Raises:
            PipelineError: The pipeline calibrates, and there is no ``observe``.
        """
        trace: list[PassRun] = []
        for index, step in list(enumerate(self.steps))[steps]:
            if isinstance(step, Calibrate):
                if stop is not None and (len(trace), 0) >= (stop.runs, stop.changes):
                    return trace
                self._calibrate(index, model, observe)
                continue
            for a_pass in _schedule(step, trace):
                if stop is not None and len(trace) > stop.runs:
                    return trace
                limit = stop.changes if stop is not None and len(trace) == stop.runs else None
                if limit == 0:
                    return trace
                progress(a_pass)
                trace.append(_run(a_pass, model, limit))
        return trace

    def _calibrate(self, index: int, model: ir.Model, observe: Observer | None) -> None:
        """Observe what the passes behind step ``index``, up to the next of its kind, ask for."""
        if observe is None:
            raise PipelineError(
                "the pipeline calibrates, and there is nothing to calibrate on; give data"
            )
        wanted: set[Request] = set()
        for step in self.steps[index + 1 :]:
            if isinstance(step, Calibrate):
                break
            for a_pass in passes_of(step):
                wanted.update(a_pass.observes(model))
        if wanted:
            attach(model, observe(model, wanted))


def telling(pipeline: Pipeline, tell: Listener) -> Callable[[Pass], None]:
    """What to give :meth:`Pipeline.run` as ``progress`` to have ``tell`` told of every pass."""
    total, runs = sum(1 for _ in pipeline.passes()), itertools.count(1)

    def progress(a_pass: Pass) -> None:
        tell(Event("pass", str(a_pass), done=min(next(runs), total), total=total))

    return progress


def passes_of(step: Step) -> tuple[Pass, ...]:
    """The passes of a step."""
    if isinstance(step, Repeat):
        return step.passes
    return (step,) if isinstance(step, Pass) else ()


def _schedule(step: Pass | Repeat, trace: list[PassRun]) -> Iterator[Pass]:
    """The runs that ``step`` asks for; a repeat looks at the trace to see when it is done."""
    if isinstance(step, Pass):
        yield step
        return
    unchanged = 0  # how many passes in a row had nothing to do
    for _ in range(MAX_ROUNDS):
        for a_pass in step.passes:
            yield a_pass
            unchanged = 0 if trace[-1].changes else unchanged + 1
            if unchanged >= len(step.passes):
                return
    raise RuntimeError(f"{step} still changes the model after {MAX_ROUNDS} rounds")


def _run(a_pass: Pass, model: ir.Model, limit: int | None) -> PassRun:
    before = queries.count_nodes(model)
    start = time.perf_counter()
    try:
        journal = a_pass.call(model, limit).journal
    except InfoptError:
        raise
    except ir.passes.PassError as error:
        # onnx_ir wraps what a nested pass raised; the cause is what a person can act on.
        raise (error.__cause__ or error) from None
    return PassRun(
        spec=str(a_pass),
        seconds=time.perf_counter() - start,
        nodes_before=before,
        nodes_after=queries.count_nodes(model),
        changes=tuple(journal.changes),
        refusals=tuple(journal.refusals),
    )


_TOKEN = re.compile(
    rf"\s*(?:(?P<word>{WORD})|(?P<mark>[{{}}(),=])|(?P<quoted>\"(?:[^\"\\]|\\.)*\"))", re.DOTALL
)


class _Parser:
    """Recursive descent over ``step ("," step)*``."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise self._error(f"unexpected {text[position:].strip()[0]!r}")
            self._tokens.append(match["word"] or match["mark"] or match["quoted"])
            position = match.end()
        self._at = 0

    def steps(self) -> tuple[Step, ...]:
        steps = tuple(self._list(self._step)) if self._tokens else ()
        if self._at < len(self._tokens):
            raise self._error(f"unexpected {self._tokens[self._at]!r}")
        return steps

    def _step(self) -> Step:
        word = self._next()
        if word == str(Calibrate()):
            return Calibrate()
        if word == "repeat" and self._peek() == "(":
            self._next("(")
            passes = tuple(self._list(lambda: self._pass(self._next())))
            self._next(")")
            return Repeat(passes)
        return self._pass(word)

    def _pass(self, name: str) -> Pass:
        cls = PASSES.get(name)
        if cls is None:
            raise PipelineError(
                f"there is no pass {name!r}{nearest(name, PASSES)}; `infopt passes` lists them"
            )
        options: dict[str, object] = {}
        if self._peek() == "{":
            self._next("{")
            for key, value in self._list(self._option):
                options[key] = convert(cls, key, value)
            self._next("}")
        return cls(**options)

    def _option(self) -> tuple[str, str]:
        key = self._next()
        self._next("=")
        return key, self._text_of(self._next())

    def _text_of(self, token: str) -> str:
        """A word as it is; what stands in quotes without them."""
        if not token.startswith('"'):
            return token
        try:
            return str(json.loads(token, strict=False))
        except ValueError:
            raise self._error(f"{token} is no text as in JSON") from None

    def _list(self, item: Callable[[], _Item]) -> list[_Item]:
        items = [item()]
        while self._peek() == ",":
            self._next(",")
            items.append(item())
        return items

    def _peek(self) -> str | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self, expected: str | None = None) -> str:
        token = self._peek()
        if token is None or (token != expected if expected else token in "{}(),="):
            found = "the end" if token is None else repr(token)
            raise self._error(f"expected {expected or 'a name'!r}, found {found}")
        self._at += 1
        return token

    def _error(self, what: str) -> PipelineError:
        return PipelineError(
            f"pipeline {self._text!r}: {what}; the form is name{{option=value}},repeat(name,name)"
        )


def convert(cls: type[Pass], key: str, text: str) -> object:
    """``text`` as the type of option ``key`` of ``cls``.

    Raises:
        PipelineError: There is no such option, or it has another type.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if key not in fields:
        known = ", ".join(fields) or "none"
        raise PipelineError(
            f"pass {cls.name!r} has no option {key!r}{nearest(key, fields)}; its options: {known}"
        )
    default = fields[key].default
    if isinstance(default, bool):
        if text not in ("true", "false"):
            raise PipelineError(f"{cls.name}{{{key}}} must be true or false, not {text!r}")
        return text == "true"
    for kind in (int, float):
        if isinstance(default, kind):
            try:
                return kind(text)
            except ValueError:
                raise PipelineError(
                    f"{cls.name}{{{key}}} must be {kind.__name__}, not {text!r}"
                ) from None
    return text


def summarize(trace: Sequence[PassRun]) -> dict[str, int]:
    """How many changes each rule made in all of ``trace``."""
    counts: dict[str, int] = {}
    for run in trace:
        for change in run.changes:
            counts[change.rule] = counts.get(change.rule, 0) + 1
    return counts
