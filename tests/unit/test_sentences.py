"""What the terminal and the pages say alike."""

from __future__ import annotations

import math

import pytest

from infopt import sentences


@pytest.mark.parametrize(
    ("tolerance", "least", "said"),
    [
        (1e-4, -math.inf, "0.0001"),
        (math.inf, 10.0, "10 dB"),
        (0.05, 20.0, "0.05 and 20 dB"),
        (math.inf, -math.inf, "any distance"),
        (0.0, -math.inf, "0"),
    ],
)
def test_a_limit(tolerance: float, least: float, said: str) -> None:
    assert sentences.limit({"tolerance": tolerance, "least_sqnr": least}) == said


def test_what_a_runtime_makes_of_products() -> None:
    found = {"integer": 3, "floating": ["a"], "rounding": 2}
    assert sentences.outcome(found) == [
        "3 of 4 quantized products run on integers; 2 round their inputs to 8 bits as they run"
    ]
    assert sentences.outcome({"integer": 1, "floating": [], "on": "float16"}) == [
        "1 of 1 product run on float16"
    ]
    assert sentences.outcome({"integer": 0, "floating": []}) == []


def test_layers_of_a_plan() -> None:
    found = {"integer": 0, "floating": [], "layers": ["a", "b"], "regions": 1, "reformats": 0}
    assert sentences.outcome(found) == [
        "2 layers in the plan: 1 of several nodes, 0 that only change a format"
    ]


def test_why_something_was_not_measured() -> None:
    assert sentences.reason("not measured: no GPU") == "no GPU"
    assert sentences.reason("no GPU") == "no GPU"
    assert sentences.reason(None) == ""


def test_names_that_are_kept_are_cut() -> None:
    assert sentences.short('quantize-static{keep="a,b",bits=8}') == "quantize-static{keep=…,bits=8}"
    assert sentences.short("quantize-static{keep=a+b}") == "quantize-static{keep=…}"
