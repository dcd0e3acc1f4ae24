"""Where a pipeline quantizes, and where it cannot be taken apart."""

from __future__ import annotations

import pytest

from infopt.backends import backend_for
from infopt.errors import UsageError
from infopt.pipeline import Pipeline
from infopt.presets import preset
from infopt.target import parse_target
from infopt.tuning.plan import plan_of

CPU = backend_for(parse_target("onnxruntime:cpu"))
CUDA = backend_for(parse_target("onnxruntime:cuda"))


def test_what_quantizes_and_what_corrects_it_stand_together() -> None:
    plan = plan_of(preset(CPU, "int8", data=True))
    steps = [str(step).partition("{")[0] for step in plan.pipeline.steps[plan.start : plan.stop]]
    assert steps == ["quantize-static", "correct-bias"]
    plan = plan_of(preset(CPU, "int4"))
    steps = [str(step).partition("{")[0] for step in plan.pipeline.steps[plan.start : plan.stop]]
    assert steps == ["quantize-weights"]  # without what rounds inputs as it runs


def test_nodes_are_kept_in_every_pass_that_quantizes() -> None:
    plan = plan_of(Pipeline.parse("quantize-static{keep=a},correct-bias,quantize-weights"))
    assert str(plan.keeping(["b"]).pipeline) == (
        "quantize-static{keep=a+b},correct-bias,quantize-weights{keep=b}"
    )
    assert plan.keeping([]) == plan


@pytest.mark.parametrize(
    ("pipeline", "said"),
    [
        (preset(CPU, "fp32"), "nothing is quantized.*choose the precision int8 or int4"),
        (preset(CUDA, "fp16"), "fp16 and bf16 leave in float32 what is out of range"),
        (
            Pipeline.parse("calibrate,quantize-static,calibrate,quantize-weights"),
            "calibrate stands between passes that quantize",
        ),
    ],
)
def test_what_cannot_be_ranked(pipeline: Pipeline, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        plan_of(pipeline)
