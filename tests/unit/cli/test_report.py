"""What the report says, line by line, of evidence of every kind."""

from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Group, RenderableType

from infopt.cli import report
from infopt.cli.console import console_on
from infopt.evidence.equivalence import Equivalence
from infopt.evidence.metrics import Difference
from infopt.measure.timing import Measurement


def _lines(*drawn: RenderableType, width: int = 100) -> list[str]:
    shown = io.StringIO()
    console_on(shown, width).print(Group(*drawn))
    return [line.rstrip() for line in shown.getvalue().splitlines()]


def _found(**changed: Any) -> dict[str, Any]:
    found = Equivalence(
        outputs={
            "scores": Difference(2.4e-6, 3e-7, 121.4, 0.99999999, 0.975),
            "mask": Difference(0.0, 0.0, math.inf, 1.0),
        },
        samples=("given: x=1×8", "given: x=3×8"),
        tolerance=1e-4,
        reference="the original file",
    ).as_dict()
    return found | changed


def test_a_comparison_that_holds() -> None:
    assert _lines(
        report.equivalence(_found(ran="on onnxruntime:cpu"), "How exact", verbose=False)
    ) == [
        "How exact  every output within 0.0001",
        "  output  max abs  max rel    SQNR    cosine  top-1",
        "  scores  2.4e-06  3.0e-07  121 dB  0.999999  97.5%",
        "  mask          0        0       ∞         1      –",
        "  compared with the original file, on onnxruntime:cpu, on 2 samples",
        "    given: x=1×8",
        "    given: x=3×8",
    ]


def test_a_comparison_that_does_not() -> None:
    worse = Difference(math.inf, math.inf, -math.inf, -1.0)
    found = _found(outputs={"y": vars(worse)}, failing=(1,))
    lines = _lines(report.equivalence(found, "How exact", verbose=False))
    assert lines[0] == "How exact  1 sample beyond 0.0001"
    assert lines[1:3] == [
        "  output  max abs  max rel  SQNR     cosine",
        "  y             ∞        ∞    -∞  -1.000000",
    ]


def test_many_samples_are_summed_up() -> None:
    found = _found(samples=tuple(f"seed {n}" for n in range(9)))
    short = _lines(report.equivalence(found, "How exact", verbose=False))
    assert short[-1] == "    and 5 more (-v shows them)"
    assert _lines(report.equivalence(found, "How exact", verbose=True))[-1] == "    seed 8"


def test_what_a_comparison_does_not_show() -> None:
    found = _found(undetermined=("noise",), notes=("x=0×8 does not run",))
    lines = _lines(report.equivalence(found, "How exact", verbose=False))
    assert "  not comparable, the original itself varies: noise" in lines
    assert "  x=0×8 does not run" in lines


def test_what_was_not_measured_is_said() -> None:
    lines = _lines(
        *report.evidence(
            {"equivalence": "not measured: verification was switched off"}, verbose=False
        )
    )
    assert lines == [
        "How exact  not measured: verification was switched off",
        "",
        "How fast  not measured",
    ]


def test_a_target_that_was_not_there() -> None:
    evidence = {
        "equivalence": _found(),
        "target": "not measured: no CUDA device can be used here",
        "speed": "not measured: no CUDA device can be used here",
    }
    lines = _lines(*report.evidence(evidence, verbose=False))
    assert "  on the target: not measured: no CUDA device can be used here" in lines
    assert lines[-1] == "How fast  not measured: no CUDA device can be used here"


def test_a_measurement() -> None:
    series = {"original": (2e-3,) * 20, "engine": (1e-3,) * 20}
    measured = Measurement(series, {"original": 1, "engine": 1}, noise=0.01, seconds=1.5, seed=0)
    found = {"sample": "x=1×8", **measured.as_dict()}
    assert _lines(report.speed(found)) == [
        "How fast  at x=1×8",
        "             median      p90      p99  speed  interval",
        "  original  2.00 ms  2.00 ms  2.00 ms  1.00×             baseline",
        "  engine    1.00 ms  1.00 ms  1.00 ms  2.00×  2.00–2.00  better",
        "  interleaved, 20 rounds in 1.50 s; intervals hold with 95% confidence; "
        "the same model twice differs",
        "  by 1.0%",
    ]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = _lines(*report.evidence({"equivalence": _found()}, verbose=True), width=width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)


def _outcome(**fields: Any) -> list[str]:
    outcome = {"kernels": {}, "integer": 0, "floating": [], "notes": [], **fields}
    return _lines(*report.evidence({"equivalence": _found(), "outcome": outcome}, verbose=False))


def test_what_was_asked_for_and_what_came() -> None:
    lines = _outcome(integer=71, floating=["a", "b"])
    assert "  71 of 73 quantized products run on integers" in lines
    assert "  not so: a, b" in lines
    assert "  1 of 1 quantized product run on 8-bit floats" in _outcome(
        integer=1, on="8-bit floats"
    )
    assert "  2 of 2 products run on bfloat16" in _outcome(integer=2, on="bfloat16")


def test_layers_of_a_plan() -> None:
    lines = _outcome(layers=[{}] * 40, regions=12, reformats=3)
    assert "  40 layers in the plan: 12 of several nodes, 3 that only change a format" in lines


def test_a_plan_that_nobody_opened() -> None:
    evidence = {"equivalence": _found(), "outcome": "not measured: only on a GPU"}
    assert not [line for line in _lines(*report.evidence(evidence, verbose=False)) if "GPU" in line]
