"""Schemes: options of the passes that change the precision."""

from __future__ import annotations

import pytest

from infopt.backends import backend_for
from infopt.errors import PipelineError, QuantizationError, UsageError
from infopt.presets import parse_scheme, preset
from infopt.target import parse_target

CPU = backend_for(parse_target("onnxruntime:cpu"))


def test_both_forms() -> None:
    expected = {"block": "128", "symmetric": "true"}
    assert parse_scheme(" block = 128, symmetric=true,") == expected
    assert parse_scheme({"block": 128, "symmetric": True}) == expected
    assert parse_scheme(None) == parse_scheme("") == {}


@pytest.mark.parametrize("text", ["block", "block=", "=128", "a=1,,b"])
def test_what_does_not_parse(text: str) -> None:
    with pytest.raises(UsageError, match="write OPTION=VALUE"):
        parse_scheme(text)


def test_options_replace_those_of_the_preset() -> None:
    usual = str(preset(CPU, "int4"))
    assert str(preset(CPU, "int4", scheme={})) == usual
    changed = str(preset(CPU, "int4", scheme={"block": "128", "accuracy_level": "0"}))
    assert "quantize-weights{block=128,algorithm=hqq}" in changed
    assert "lower-block-products," in changed


def test_data_is_looked_at_where_there_is_some() -> None:
    assert "calibrate" not in str(preset(CPU, "int4"))
    assert "calibrate,quantize-weights{algorithm=gptq}" in str(preset(CPU, "int4", data=True))
    awq = str(preset(CPU, "int4", scheme={"algorithm": "awq"}))
    assert "calibrate,quantize-weights{algorithm=awq}" in awq


def test_an_option_that_no_pass_has() -> None:
    with pytest.raises(UsageError, match=r"no option 'blocks'; did you mean 'block'.*known: acc"):
        preset(CPU, "int4", scheme={"blocks": "128"})
    with pytest.raises(UsageError, match="fp32 has no scheme"):
        preset(CPU, "fp32", scheme={"block": "128"})


@pytest.mark.parametrize(
    ("scheme", "error", "said"),
    [
        ({"block": "many"}, PipelineError, "must be int, not 'many'"),
        ({"symmetric": "yes"}, PipelineError, "must be true or false"),
        ({"algorithm": "best"}, QuantizationError, "use one of nearest, hqq, gptq, awq"),
        ({"accuracy_level": "3"}, PipelineError, "no accuracy level 3"),
    ],
)
def test_values_that_make_no_sense(
    scheme: dict[str, str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        preset(CPU, "int4", scheme=scheme)
