import pytest

from infopt.backends import backend_for
from infopt.errors import UsageError
from infopt.passes import PASSES
from infopt.passes.fusion._fusion import Fusion
from infopt.pipeline import Pipeline
from infopt.presets import PRECISIONS, cleanup, preset, raising
from infopt.target import TARGETS, parse_target
from infopt.verification import BUDGETS

CPU = backend_for(parse_target("onnxruntime:cpu"))


def test_every_raising_pass_has_its_place() -> None:
    placed = [p.name for p in Pipeline(raising()).passes() if isinstance(p, Fusion)]
    assert sorted(placed) == sorted(n for n, cls in PASSES.items() if issubclass(cls, Fusion))


def test_the_lists_have_a_text_form_that_parses_back() -> None:
    pipeline = Pipeline((*cleanup(), *raising()))
    assert Pipeline.parse(str(pipeline)) == pipeline


def test_integers_without_data_see_products_as_they_will_run() -> None:
    text = str(preset(CPU, "int8-dynamic"))
    before, after = text.split("quantize-dynamic")
    assert "calibrate" not in text
    assert "unpack-projections" in before
    assert "lower-gemm" in before
    assert "lower-quantized-products" in after
    assert Pipeline.parse(text) == preset(CPU, "int8-dynamic")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_precision_has_a_budget_and_a_pipeline_or_a_reason(precision: str) -> None:
    assert precision in BUDGETS
    for name in TARGETS:
        try:
            assert preset(backend_for(parse_target(name)), precision)
        except UsageError as error:
            assert "choose" in str(error).lower()  # noqa: PT017 - either way is right
