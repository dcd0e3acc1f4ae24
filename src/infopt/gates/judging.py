"""From facts then and facts now to findings; nothing here is measured, and nothing is random."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from infopt.engine import TensorSpec
from infopt.evidence.equivalence import Budget
from infopt.gates.baseline import Baseline
from infopt.gates.facts import INTENDED, Error, Facts
from infopt.gates.findings import Finding
from infopt.gates.limits import FINDINGS, Limits
from infopt.measure.sequential import change
from infopt.measure.statistics import Ratio, Verdict
from infopt.words import count, figure, shape, size

NOISE_GROWTH = 3.0
"""Decibels that noise may grow by where the user sets no bound: it has doubled then."""
RELATIVE_GROWTH = 2.0
"""The same for the largest relative error."""
_ROUNDING = 1e-4
"""Relative errors below it are the rounding of reordered sums, and differ from machine to machine;
noise that is 80 dB down, likewise."""
_ROUNDING_DB = 80.0
_NAMED = 3


def judge(baseline: Baseline, now: Facts, limits: Limits) -> tuple[Finding, ...]:
    """Hold ``now`` against ``baseline``: one finding for each thing that both could have."""
    found = (_JUDGES[name](baseline, now, limits) for name in FINDINGS)
    return tuple(
        dataclasses.replace(finding, allowed=finding.name in limits.allowed)
        for finding in found
        if finding is not None
    )


def interface_changes(then: Facts, now: Facts) -> list[str]:
    """How the names, types and shapes of inputs and outputs differ, in words."""
    return [
        *_specs("input", then.inputs, now.inputs),
        *_specs("output", then.outputs, now.outputs),
    ]


def _specs(what: str, then: tuple[TensorSpec, ...], now: tuple[TensorSpec, ...]) -> list[str]:
    before, after = {spec.name: spec for spec in then}, {spec.name: spec for spec in now}
    gone = [spec for spec in then if spec.name not in after]
    new = [spec for spec in now if spec.name not in before]
    words = []
    for old in gone:
        alike = [spec for spec in new if _face(spec) == _face(old)]
        if alike:
            new.remove(alike[0])
            words.append(f"{what} {old.name!r} is called {alike[0].name!r} now")
        else:
            words.append(f"{what} {old.name!r} is gone")
    words += [f"{what} {spec.name!r} is new" for spec in new]
    for name in [name for name in before if name in after]:
        if before[name].dtype != after[name].dtype:
            words.append(
                f"{what} {name!r} is {after[name].dtype} now, and was {before[name].dtype}"
            )
        elif _sizes(before[name]) != _sizes(after[name]):
            old_shape, new_shape = shape(before[name].shape), shape(after[name].shape)
            words.append(f"{what} {name!r} has shape {new_shape} now, and had {old_shape}")
    return words


def _face(spec: TensorSpec) -> tuple[object, ...]:
    return spec.dtype, _sizes(spec)


def _sizes(spec: TensorSpec) -> tuple[object, ...] | None:
    """The sizes that callers rely on: what a dynamic dimension is called matters to nobody."""
    if spec.shape is None:
        return None
    return tuple(size if isinstance(size, int) else None for size in spec.shape)


def _interface(baseline: Baseline, now: Facts, limits: Limits) -> Finding:
    del limits
    changes = interface_changes(baseline.facts, now)
    inputs, outputs = count(len(now.inputs), "input"), count(len(now.outputs), "output")
    sentence = "; ".join(changes) or f"{inputs} and {outputs}, as in the baseline"
    return Finding("interface", "worse" if changes else "same", sentence)


def _operators(baseline: Baseline, now: Facts, limits: Limits) -> Finding:
    del limits
    then, after = baseline.facts.operators, now.operators
    new = [name for name in after if name not in then]
    gone = [name for name in then if name not in after]
    words = [f"operators that the baseline has not: {_list(new)}"] if new else []
    words += [f"operators that are gone: {_list(gone)}"] if gone else []
    sentence = "; ".join(words) or f"the same {count(len(after), 'operator')}"
    total = f"{sum(then.values()):,} nodes", f"{sum(after.values()):,} nodes"
    return Finding("operators", "worse" if new else "same", sentence, *total)


def _fusions(baseline: Baseline, now: Facts, limits: Limits) -> Finding | None:
    del limits
    then = baseline.facts.fusions
    if not then and not now.fusions:
        return None
    fewer = [
        f"{now.fusions.get(name, 0)} {name}, {number} in the baseline"
        for name, number in then.items()
        if now.fusions.get(name, 0) < number
    ]
    more = [name for name, number in now.fusions.items() if number > then.get(name, 0)]
    was, is_ = f"{sum(then.values())}", f"{sum(now.fusions.values())}"
    if fewer:
        return Finding("fusions", "worse", f"a fusion was lost: {'; '.join(fewer)}", was, is_)
    sentence = f"more than in the baseline: {_list(more)}" if more else f"all {was} are there"
    return Finding("fusions", "better" if more else "same", sentence, was, is_)


def _precision(baseline: Baseline, now: Facts, limits: Limits) -> Finding | None:
    del limits
    wanted = INTENDED[baseline.precision]
    then, after = (_intended(facts, wanted) for facts in (baseline.facts, now))
    if not then[1] and not after[1]:
        return None
    was, is_ = (f"{here} of {total}" for here, total in (then, after))
    shares = [here / total if total else 1.0 for here, total in (then, after)]
    if shares[1] >= shares[0]:
        sentence = f"{is_} products at {baseline.precision}, {was} in the baseline"
        verdict: Verdict = "better" if shares[1] > shares[0] else "same"
        return Finding("precision", verdict, sentence, was, is_)
    kept = {
        name
        for kind, names in baseline.facts.products.items()
        if kind not in wanted
        for name in names
    }
    strays = [
        f"{name} ({kind})"
        for kind, names in now.products.items()
        if kind not in wanted
        for name in names
        if name not in kept
    ]
    sentence = (
        f"{is_} products at {baseline.precision}, {was} in the baseline; no longer: {_list(strays)}"
    )
    return Finding("precision", "worse", sentence, was, is_)


def _intended(facts: Facts, wanted: tuple[str, ...]) -> tuple[int, int]:
    here = sum(len(names) for kind, names in facts.products.items() if kind in wanted)
    return here, sum(map(len, facts.products.values()))


def _error(baseline: Baseline, now: Facts, limits: Limits) -> Finding:
    then = baseline.facts.error
    if now.error is None or then is None:
        return _unknown("error", baseline.facts, now)
    beyond, shown = [], []
    for name, found in now.error.items():
        bound = _bound(then.get(name), limits)
        within = found.max_relative <= bound.tolerance and found.sqnr_db >= bound.least_sqnr
        shown.append((within, -found.max_relative, name, found, bound))
        if not within:
            beyond.append(f"output {name!r} is off by {_far(found)}, allowed are {_bounds(bound)}")
    if not shown:
        return Finding("error", "inconclusive", "no output could be compared with the reference")
    _, _, name, worst, bound = min(shown, key=lambda row: row[:3])
    was = _far(then[name]) if name in then else ""
    far = f"at most {_far(worst)} from the reference"
    sentence = "; ".join(beyond) or (f"{far}, {was} in the baseline" if was else far)
    verdict: Verdict = "worse" if beyond else "same"
    return Finding("error", verdict, sentence, was, _far(worst), _bounds(bound))


def _bound(then: Error | None, limits: Limits) -> Budget:
    """What an output may be off by: the user's bound, or what the baseline's error leaves."""
    if limits.error is not None and _bounded(limits.error.error):
        return limits.error.error
    if then is None:
        return Budget(_ROUNDING)
    tolerance = max(RELATIVE_GROWTH * then.max_relative, _ROUNDING)
    return Budget(tolerance, min(then.sqnr_db, _ROUNDING_DB) - NOISE_GROWTH)


def _bounded(bound: Budget) -> bool:
    return math.isfinite(bound.tolerance) or math.isfinite(bound.least_sqnr)


def _metric(baseline: Baseline, now: Facts, limits: Limits) -> Finding | None:
    then = baseline.facts.metric
    if now.metric is None:
        return None if then is None else _unknown("metric", baseline.facts, now)
    if then is None:
        sentence = f"the baseline has no {now.metric.name}; take it again with --metric"
        return Finding("metric", "inconclusive", sentence, "", f"{now.metric.value:.4g}")
    allowed = 0.0 if limits.error is None or limits.error.drop is None else limits.error.drop
    drop = then.value - now.metric.value
    # The difference of two decimals is off by a rounding: a drop of 0.01 is one of 0.01.
    lost = drop > allowed + 1e-9 * max(1.0, abs(then.value))
    verdict: Verdict = "worse" if lost else "better" if -drop > allowed else "same"
    was, is_ = f"{then.value:.4g}", f"{now.metric.value:.4g}"
    moved = f"{abs(drop):.3g} {'lost' if drop > 0 else 'gained'}" if drop else "nothing lost"
    sentence = f"{then.name} is {is_}, {was} in the baseline: {moved}, {allowed:.3g} allowed"
    return Finding("metric", verdict, sentence, was, is_, f"−{allowed:.3g}")


def _latency(baseline: Baseline, now: Facts, limits: Limits) -> Finding | None:
    what = "a call takes"
    return _timed("latency", what, baseline, now, lambda facts: facts.speed, limits.slowdown)


def _cold_start(baseline: Baseline, now: Facts, limits: Limits) -> Finding | None:
    return _timed(
        "cold-start",
        "from the start of a process to its first answer takes",
        baseline,
        now,
        lambda facts: facts.cold_start,
        limits.cold_start_growth,
    )


def _timed(
    name: str,
    what: str,
    baseline: Baseline,
    now: Facts,
    of: Callable[[Facts], Ratio | None],
    limit: float,
) -> Finding | None:
    before, after = of(baseline.facts), of(now)
    if before is None or after is None:
        return _unknown(name, baseline.facts, now) if _asked(name, before, baseline) else None
    found = change(before, after)
    verdict = found.verdict(limit)
    interval = f"between {_percent(found.low)} and {_percent(found.high)}"
    said = _said(what, verdict, found.value, limit)
    was, is_ = f"{before.value:.2f}×", f"{after.value:.2f}×"
    sentence = f"{said} ({interval}; {is_} the reference's speed, {was} in the baseline)"
    return Finding(name, verdict, sentence, was, is_, f"+{limit:.1%}")


def _said(what: str, verdict: Verdict, value: float, limit: float) -> str:
    if verdict == "inconclusive":
        return f"whether {what} {limit:.1%} longer than in the baseline could not be decided"
    longer = f"{abs(value):.1%} {'longer' if value > 0 else 'less'}"
    if verdict == "same":
        return f"{what} {longer} than in the baseline, within the {limit:.1%} allowed"
    return f"{what} {longer} than in the baseline, {limit:.1%} are allowed"


def _asked(name: str, then: object, baseline: Baseline) -> bool:
    """Whether the baseline has a figure, or has tried to."""
    return then is not None or name in baseline.facts.unknown


def _memory(baseline: Baseline, now: Facts, limits: Limits) -> Finding | None:
    then, after = baseline.facts.memory, now.memory
    if then is None or after is None:
        asked = _asked("memory", then, baseline)
        return _unknown("memory", baseline.facts, now) if asked else None
    growth = (after.own / after.reference) / (then.own / then.reference) - 1
    relative = f"{after.own / after.reference:.2f} of the reference's"
    words = f"a fresh process needs {size(after.own)}, {relative}: {_percent(growth)}"
    return _grown("memory", words, growth, limits.memory_growth, size(then.own), size(after.own))


def _size(baseline: Baseline, now: Facts, limits: Limits) -> Finding:
    then, after = baseline.facts.size, now.size
    growth = after / then - 1 if then else math.inf
    words = f"{size(after)} on disk, {size(then)} in the baseline: {_percent(growth)}"
    return _grown("size", words, growth, limits.size_growth, size(then), size(after))


def _grown(name: str, words: str, growth: float, limit: float, was: str, is_: str) -> Finding:
    # 1,050 to 1,000 is 5 % more, and rounding makes it a hair more than that.
    worse, better = growth > limit + 1e-9, growth < -limit - 1e-9
    verdict: Verdict = "worse" if worse else "better" if better else "same"
    return Finding(name, verdict, f"{words}, {limit:.1%} more allowed", was, is_, f"+{limit:.1%}")


def _unknown(name: str, then: Facts, now: Facts) -> Finding:
    reason = now.unknown.get(name) or then.unknown.get(name) or "it was not measured"
    where = "" if name in now.unknown else " in the baseline"
    return Finding(name, "inconclusive", f"not measured{where}: {reason}")


def _percent(value: float) -> str:
    return f"{value:+.1%}".replace("-", "−") if math.isfinite(value) else "∞"


def _far(error: Error) -> str:
    return f"{figure(error.max_relative)} ({_decibels(error.sqnr_db)})"


def _bounds(bound: Budget) -> str:
    words = [figure(bound.tolerance)] if math.isfinite(bound.tolerance) else []
    words += [_decibels(bound.least_sqnr)] if math.isfinite(bound.least_sqnr) else []
    return " and ".join(words) or "any"


def _decibels(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else f"{figure(value)} dB"


def _list(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


_JUDGES: Mapping[str, Callable[[Baseline, Facts, Limits], Finding | None]] = {
    "interface": _interface,
    "operators": _operators,
    "fusions": _fusions,
    "precision": _precision,
    "error": _error,
    "metric": _metric,
    "latency": _latency,
    "cold-start": _cold_start,
    "memory": _memory,
    "size": _size,
}
