"""What raising found and what it missed, layer by layer, and what is expected of it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import onnx.defs
import onnx_ir as ir

from infopt.errors import ExpectationError, PipelineError, UsageError, nearest
from infopt.ir import queries
from infopt.ir.layers import Layers
from infopt.passes.base import Pass
from infopt.passes.fusion._fusion import Fusion
from infopt.pipeline import Calibrate, Observer, PassRun, Pipeline, passes_of
from infopt.presets import raising

_NAMED = 3
"""Places that an error names one by one."""


class State(enum.Enum):
    """How an operator came to be, or did not."""

    PRESENT = "present"
    """The model had it."""
    RAISED = "raised"
    MISSED = "missed"
    """A near match that was left alone."""


@dataclasses.dataclass(frozen=True)
class Site:
    """One place of an operator in the network."""

    operator: str
    state: State
    layer: str
    """As in ``encoder.layer.1``; empty where names do not tell."""
    node: str
    reason: str = ""
    """Why it was missed."""


@dataclasses.dataclass(frozen=True)
class Fusions:
    """All places of the operators that raising is about, as raising left them."""

    operators: Mapping[str, str]
    """Operator that was looked for → the pass of the pipeline that raises it, or ``""``."""
    sites: tuple[Site, ...]
    expected: Mapping[str, int]
    """Operator → how many there have to be at least."""

    def count(self, operator: str, *states: State) -> int:
        """How many places of ``operator`` there are in one of ``states``."""
        return sum(site.operator == operator and site.state in states for site in self.sites)

    def found(self, operator: str) -> int:
        """How many of ``operator`` there are, raised or present from the start."""
        return self.count(operator, State.PRESENT, State.RAISED)

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Operator → its counts, ready for JSON; without operators of which there is no trace."""
        document = {
            operator: {
                "found": self.found(operator),
                "raised": self.count(operator, State.RAISED),
                "missed": self.count(operator, State.MISSED),
            }
            for operator in self.operators
        }
        for operator, number in self.expected.items():
            document[operator]["expected"] = number
        return {operator: row for operator, row in document.items() if any(row.values())}

    def shortfall(self) -> str:
        """What there is less of than was expected, and why; empty if it is all there."""
        return "; ".join(
            f"{self.found(operator)} of {number} expected {operator}, {self._why(operator)}"
            for operator, number in self.expected.items()
            if self.found(operator) < number
        )

    def _why(self, operator: str) -> str:
        places: dict[str, list[Site]] = {}
        for site in self.sites:
            if site.operator == operator and site.state is State.MISSED:
                places.setdefault(site.reason, []).append(site)
        if not places and not self.operators[operator]:
            return "and no pass of the pipeline raises it"
        if not places:
            return "and nothing else in the model resembles it"
        return "missed: " + ", ".join(
            f"{_where(sites)} ({reason})" for reason, sites in places.items()
        )


def _where(sites: Sequence[Site]) -> str:
    named = list(dict.fromkeys(site.layer or site.node for site in sites))
    more = f" and {len(named) - _NAMED:,} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def parse_expected(text: str) -> dict[str, int]:
    """Read ``Attention=12,LayerNormalization=25``.

    Raises:
        UsageError: The text does not parse.
    """
    expected: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        operator, _, number = (word.strip() for word in part.partition("="))
        if not operator or not number.isdecimal():
            raise UsageError(
                f"{part!r} is no expected operator; write OPERATOR=COUNT, as in Attention=12"
            )
        expected[operator] = int(number)
    return expected


def check_expected(expected: Mapping[str, int] | None) -> dict[str, int]:
    """``expected``, if it can be counted.

    Raises:
        UsageError: There is no such standard operator, or its count is no natural number.
    """
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    for operator, number in (expected or {}).items():
        if operator not in known:
            raise UsageError(
                "standard operators are expected, as in Attention=12; "
                f"{operator!r} is none{nearest(operator, known)}"
            )
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise UsageError(f"the count expected of {operator} must be 0 or more, not {number!r}")
    return dict(expected or {})


def run(
    pipeline: Pipeline,
    model: ir.Model,
    *,
    expected: Mapping[str, int],
    progress: Callable[[Pass], None] = lambda _: None,
    observe: Observer | None = None,
) -> tuple[list[PassRun], Fusions]:
    """Run ``pipeline`` on ``model``, in place, and look at what its raising passes did.

    They are looked at right after the last of them: legalization may take operators apart again.
    What was nearly an operator remains so where another pass, which makes none, took it in.

    Returns:
        The trace, and what raising found and missed.
    """
    layers = Layers(model)
    before, during, after = _parts(pipeline)
    operators = _operators(pipeline, expected)
    trace = before.run(model, progress=progress, observe=observe)
    watch = _Watch(model, progress)
    raised = during.run(model, progress=watch)
    sites = (
        *_standing(model, operators, _raised(during, raised), layers),
        *_missed(watch.names(), during, raised, layers),
    )
    return (
        [*trace, *raised, *after.run(model, progress=progress, observe=observe)],
        Fusions(operators, sites, expected),
    )


class _Watch:
    """Which nodes there are, those included that a pass took in which raises nothing itself."""

    def __init__(self, model: ir.Model, progress: Callable[[Pass], None]) -> None:
        self._model = model
        self._progress = progress
        self._taken: set[str | None] = set()
        self._before: set[str | None] = set()

    def __call__(self, a_pass: Pass) -> None:
        """Note what the pass before has taken in; called before each pass."""
        self._progress(a_pass)
        self._settle()
        if isinstance(a_pass, Fusion) and not a_pass.raises:
            self._before = self._standing()

    def names(self) -> set[str | None]:
        """The names of all these nodes."""
        self._settle()
        return self._taken | self._standing()

    def _settle(self) -> None:
        if self._before:
            self._taken |= self._before - self._standing()
            self._before = set()

    def _standing(self) -> set[str | None]:
        return {node.name for node in queries.nodes(self._model)}


def insist(found: Fusions, name: str) -> None:
    """Make sure that there is what is expected.

    Raises:
        ExpectationError: There is less.
    """
    shortfall = found.shortfall()
    if shortfall:
        raise ExpectationError(
            f"{name}: {shortfall}. No engine was written; see `infopt inspect --fusions` for every "
            "place, and change the model, --pipeline or what you expect"
        )


def _parts(pipeline: Pipeline) -> tuple[Pipeline, Pipeline, Pipeline]:
    """What is before, from the first to the last, and after the raising passes."""
    steps = pipeline.steps
    at = [index for index, step in enumerate(steps) if any(map(_raises, passes_of(step)))]
    first, last = (at[0], at[-1] + 1) if at else (len(steps), len(steps))
    if at and any(isinstance(step, Calibrate) for step in steps[:last]):
        raise PipelineError("calibrate stands before a raising pass; put it behind the last one")
    return Pipeline(steps[:first]), Pipeline(steps[first:last]), Pipeline(steps[last:])


def _raises(a_pass: Pass) -> bool:
    return isinstance(a_pass, Fusion)


def _raising(pipeline: Pipeline) -> list[Fusion]:
    """The passes that make an operator; others rewrite what is around them."""
    return [p for p in pipeline.passes() if isinstance(p, Fusion) and p.raises]


def raised_operators() -> tuple[str, ...]:
    """The operators that the raising passes of every preset make."""
    return tuple(dict.fromkeys(p.operator() for p in _raising(Pipeline(raising()))))


def _operators(pipeline: Pipeline, expected: Mapping[str, int]) -> dict[str, str]:
    """What to look for: whatever can be raised or is expected → the pass that is there for it."""
    can = dict.fromkeys(raised_operators(), "")
    does = {p.operator(): p.name for p in _raising(pipeline)}
    return {**can, **dict.fromkeys(expected, ""), **does}


def _standing(
    model: ir.Model, operators: Iterable[str], raised: Mapping[str, set[str]], layers: Layers
) -> list[Site]:
    return [
        Site(
            operator=node.op_type,
            state=State.RAISED if _starts(node, raised) else State.PRESENT,
            layer=layers.of(node.name or ""),
            node=node.name or "",
        )
        for node in queries.nodes(model)
        if queries.is_standard(node, *operators)
    ]


def _raised(pipeline: Pipeline, trace: Sequence[PassRun]) -> dict[str, set[str]]:
    """Operator → the names of the nodes in whose place it was put."""
    operators = {str(p): p.operator() for p in _raising(pipeline)}
    names: dict[str, set[str]] = {}
    for run in trace:
        for change in run.changes if run.spec in operators else ():
            # a node without a name is known, and called, by its output
            name = change.node.rpartition(" → ")[2]
            names.setdefault(operators[run.spec], set()).add(name)
    return names


def _starts(node: ir.Node, names: Mapping[str, set[str]]) -> bool:
    """Whether ``node`` is called after one of these: rewriting only ever adds to a name."""
    name, known = node.name or "", names.get(node.op_type, set())
    return any(name[:end] in known for end, mark in enumerate(name) if mark == "/")


def _missed(
    names: Collection[str | None], pipeline: Pipeline, trace: Sequence[PassRun], layers: Layers
) -> list[Site]:
    """The refusals of each pass's last run, at nodes of these ``names``."""
    operators = {str(p): p.operator() for p in _raising(pipeline)}
    last = {run.spec: run.refusals for run in trace if run.spec in operators}
    return [
        Site(operators[spec], State.MISSED, layers.of(refusal.node), refusal.node, refusal.reason)
        for spec, refusals in last.items()
        for refusal in dict.fromkeys(refusals)
        if refusal.node in names
    ]
