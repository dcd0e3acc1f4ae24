from __future__ import annotations

import math
import re

import pytest

from infopt.engine import TensorSpec
from infopt.errors import UsageError
from infopt.evidence.equivalence import Budget
from infopt.gates.facts import Error, Facts, Memory, Metric
from infopt.gates.findings import Finding
from infopt.gates.judging import judge
from infopt.gates.limits import FINDINGS, Limits, share
from infopt.measure.statistics import Ratio, Verdict
from infopt.tuning.limits import Limits as ErrorLimits
from tests.support.gates import baseline, check, facts


def finding(name: str, now: Facts, limits: Limits | None = None) -> Finding:
    found = {it.name: it for it in judge(baseline(), now, limits or Limits())}
    return found[name]


def test_the_same_is_the_same_in_every_respect() -> None:
    found = judge(baseline(), facts(), Limits())
    assert [it.name for it in found] == list(FINDINGS)
    assert {it.verdict for it in found} == {"same"}
    assert check(*found).holds


def renamed(name: str, dtype: str = "float", shape: tuple[int | str, ...] = ("n", 8)) -> Facts:
    return facts(inputs=(TensorSpec(name, dtype, shape),))


CASES: list[tuple[str, Facts, Verdict, str]] = [
    ("interface", renamed("x"), "same", "1 input and 1 output, as in the baseline"),
    ("interface", renamed("y"), "worse", "input 'x' is called 'y' now"),
    ("interface", renamed("x", "float16"), "worse", "input 'x' is float16 now, and was float"),
    ("interface", renamed("x", shape=("n", 9)), "worse", "has shape n×9 now, and had batch×8"),
    ("interface", renamed("y", "int64"), "worse", "input 'x' is gone; input 'y' is new"),
    ("interface", facts(outputs=()), "worse", "output 'scores' is gone"),
    ("operators", facts(operators={"MatMul": 2}), "same", "operators that are gone: Relu"),
    ("operators", facts(operators={"Cast": 1}), "worse", "the baseline has not: Cast"),
    (
        "fusions",
        facts(fusions={"Gelu": 1, "LayerNormalization": 1}),
        "worse",
        "a fusion was lost: 1 Gelu, 2 in the baseline",
    ),
    ("fusions", facts(fusions={"LayerNormalization": 1}), "worse", "0 Gelu, 2 in the baseline"),
    (
        "fusions",
        facts(fusions={"Gelu": 2, "LayerNormalization": 1, "Attention": 1}),
        "better",
        "more than in the baseline: Attention",
    ),
    (
        "precision",
        facts(products={"int8": ("dense1",), "float": ("dense2", "head")}),
        "worse",
        "1 of 3 products at int8, 2 of 3 in the baseline; no longer: dense2 (float)",
    ),
    ("precision", facts(products={"int8": ("dense1", "dense2", "head")}), "better", "3 of 3"),
    (
        "error",
        facts(error={"scores": Error(0.05, 30.0)}),
        "worse",
        "output 'scores' is off by 5.0e-02 (30.0 dB), allowed are 4.0e-02 and 27.0 dB",
    ),
    ("error", facts(error={"scores": Error(0.02, 26.9)}), "worse", "allowed are"),
    ("error", facts(error={"scores": Error(0.039, 27.1)}), "same", "2.0e-02 (30.0 dB) in the"),
    ("error", facts(error={}), "inconclusive", "no output could be compared"),
    (
        "error",
        facts(error=None, unknown={"error": "no GPU"}),
        "inconclusive",
        "not measured: no GPU",
    ),
    ("metric", facts(metric=Metric("tasks:accuracy", 0.90)), "worse", "0.01 lost, 0 allowed"),
    ("metric", facts(metric=Metric("tasks:accuracy", 0.92)), "better", "0.01 gained"),
    ("metric", facts(metric=None), "inconclusive", "not measured"),
    (
        "latency",
        facts(speed=Ratio(1.82, 1.81, 1.83, 0.99)),
        "worse",
        "a call takes 9.9% longer than in the baseline, 5.0% are allowed",
    ),
    ("latency", facts(speed=Ratio(1.95, 1.94, 1.96, 0.99)), "same", "within the 5.0% allowed"),
    ("latency", facts(speed=Ratio(1.9, 1.8, 2.0, 0.99)), "inconclusive", "could not be decided"),
    ("latency", facts(speed=Ratio(1.82, 1.7, 1.98, 0.99)), "inconclusive", "could not be decided"),
    ("latency", facts(speed=Ratio(2.5, 2.4, 2.6, 0.99)), "better", "20.0% less"),
    ("cold-start", facts(cold_start=Ratio(0.7, 0.69, 0.71, 0.9)), "worse", "first answer takes"),
    ("memory", facts(memory=Memory(250, 400)), "worse", "+25.0%, 20.0% more allowed"),
    ("memory", facts(memory=Memory(400, 800)), "same", "+0.0%"),
    ("memory", facts(memory=Memory(100, 400)), "better", "−50.0%"),
    ("size", facts(size=2000), "worse", "2.00 kB on disk, 1.00 kB in the baseline: +100.0%"),
    ("size", facts(size=1050), "same", "+5.0%"),
    ("size", facts(size=500), "better", "−50.0%"),
]


@pytest.mark.parametrize(("name", "now", "verdict", "sentence"), CASES)
def test_findings(name: str, now: Facts, verdict: Verdict, sentence: str) -> None:
    found = finding(name, now)
    assert found.verdict == verdict, found.sentence
    assert sentence in found.sentence
    others = [it.verdict for it in judge(baseline(), now, Limits()) if it.name != name]
    assert set(others) == {"same"}


def test_an_error_that_was_none_may_become_rounding() -> None:
    exact = baseline(facts=facts(error={"scores": Error(0.0, math.inf)}))
    for far, verdict in ((Error(9e-5, 90.0), "same"), (Error(2e-4, 90.0), "worse")):
        found = judge(exact, facts(error={"scores": far}), Limits())
        assert {it.name: it.verdict for it in found}["error"] == verdict


def test_limits_of_the_users_own() -> None:
    slow, large = facts(speed=Ratio(1.82, 1.81, 1.83, 0.99)), facts(size=2000)
    assert finding("latency", slow, Limits(slowdown=0.12)).verdict == "same"
    assert finding("size", large, Limits(size_growth=1.0)).verdict == "same"
    wide = Limits(error=ErrorLimits(Budget(0.1)))
    assert finding("error", facts(error={"scores": Error(0.09, 10.0)}), wide).verdict == "same"
    narrow = Limits(error=ErrorLimits(Budget(math.inf, 31.0)))
    assert finding("error", facts(), narrow).verdict == "worse"
    metric = ErrorLimits(Budget(math.inf), drop=0.01)
    lost = facts(metric=Metric("tasks:accuracy", 0.90))
    assert finding("metric", lost, Limits(error=metric)).verdict == "same"
    worse = finding("error", facts(error={"scores": Error(0.05, 30.0)}), Limits(error=metric))
    assert worse.verdict == "worse"  # a bound on the metric is none on the error


def test_what_is_allowed_is_told_and_does_not_count() -> None:
    found = judge(baseline(), facts(size=2000), Limits(allowed=frozenset(["size"])))
    (size,) = (it for it in found if it.name == "size")
    assert (size.verdict, size.allowed, size.counts) == ("worse", True, False)
    assert check(*found).holds
    with pytest.raises(UsageError, match="no finding 'latencies' to allow; did you mean 'latency'"):
        Limits(allowed=frozenset(["latencies"]))


def test_what_the_baseline_never_had_is_not_missed() -> None:
    bare = baseline(facts=facts(cold_start=None, memory=None, metric=None, fusions={}))
    now = facts(cold_start=None, memory=None, metric=None, fusions={})
    names = {it.name for it in judge(bare, now, Limits())}
    assert names == set(FINDINGS) - {"cold-start", "memory", "metric", "fusions"}


def test_what_the_baseline_could_not_measure_is_inconclusive() -> None:
    blind = baseline(facts=facts(speed=None, unknown={"latency": "no GPU"}))
    found = {it.name: it for it in judge(blind, facts(), Limits())}
    assert found["latency"].verdict == "inconclusive"
    assert found["latency"].sentence == "not measured in the baseline: no GPU"


def test_what_a_check_comes_to() -> None:
    same, open_ = Finding("size", "same", ""), Finding("latency", "inconclusive", "")
    worse = Finding("error", "worse", "")
    assert (check(same).verdict, check(same).holds) == ("same", True)
    assert (check(same, open_).verdict, check(same, open_).holds) == ("inconclusive", False)
    assert check(same, open_, lenient=True).holds
    assert not check(same, worse, lenient=True).holds
    assert check(worse, open_).sentence == "worse: error; inconclusive: latency"


@pytest.mark.parametrize(("text", "number"), [("5%", 0.05), ("0.05", 0.05), (" 12.5 % ", 0.125)])
def test_shares(text: str, number: float) -> None:
    assert share(text) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "-1%", "five", "1e9", "5%%", "1-2", "nan"])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{text!r} is no limit")):
        share(text)
