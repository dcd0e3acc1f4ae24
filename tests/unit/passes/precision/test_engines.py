"""Engines of 16 bits, from the model to the manifest; without a GPU they are simulated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import infopt
from infopt.backends import backend_for
from infopt.backends.base import RunOptions
from infopt.errors import UsageError, VerificationError
from infopt.ir import files
from infopt.target import TARGETS
from infopt.verification import BUDGETS

CUDA = "onnxruntime:cuda"
both = pytest.mark.parametrize("precision", ["fp16", "bf16"])

LARGE = """<ir_version: 8, opset_import: ["" : 18]>
g (float[n,8] x) => (float[n,8] y, float[n,8] z)
<float[8] v = {1, 2, 3, 4, 5, 6, 7, 8}, float large = {1000000}, float down = {0.00001},
 float up = {100000}>
{
  [first] a = Mul(x, v)
  [weights] b = Mul(a, large)
  [back] c = Mul(b, down)
  [last] y = Tanh(c)
  [squares] s = Mul(a, a)
  [values] w = Mul(s, up)
  [root] r = Sqrt(w)
  [out] z = Mul(r, down)
}"""


def _converting(engine: infopt.Engine) -> dict[str, Any]:
    (found,) = [run for run in engine.manifest.passes if run["spec"].startswith("convert-")]
    return dict(found)


def _simulate(engine: infopt.Engine, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    session = backend_for(TARGETS[CUDA]).simulate(engine.path, RunOptions())
    return session(inputs)


def test_the_manifest_names_what_stayed_float32_and_nothing_is_infinite(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(LARGE), tmp_path / "m.onnx")
    engine = infopt.optimize(
        tmp_path / "m.onnx", tmp_path / "e", target=CUDA, precision="fp16", measure=False
    )
    refused = {entry["node"]: entry["reason"] for entry in _converting(engine)["refusals"]}
    assert "its constant 'large' reaches 1e+06" in refused["weights"]
    assert "its input 'b' reaches" in refused["back"]
    assert "reaches" in refused["values"]
    assert "first" not in refused
    assert "last" not in refused
    evidence = engine.manifest.evidence
    assert evidence["equivalence"]["holds"]
    assert [found["synthetic"] for found in evidence["calibration"]] == [True]
    assert engine.manifest.precision == "fp16"
    x = np.random.default_rng(5).standard_normal((4, 8), np.float32)
    for output in _simulate(engine, {"x": x}).values():
        assert output.dtype == np.float32
        assert np.isfinite(output).all()


def test_what_overflows_unobserved_is_found_and_its_node_named(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(LARGE), tmp_path / "m.onnx")
    what = r"Guilty: convert-float16, rule convert at node .* was written; leave that pass"
    with pytest.raises(VerificationError, match=what):
        infopt.optimize(
            tmp_path / "m.onnx",
            tmp_path / "e",
            target=CUDA,
            precision="fp16",
            pipeline="lift-constants,convert-float16",
        )


@both
def test_a_processor_is_no_place_for_it(precision: str, tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(LARGE), tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"not for onnxruntime:cpu: .* onnxruntime:cuda"):
        infopt.optimize(tmp_path / "m.onnx", tmp_path / "e", precision=precision)


def _bert() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        vocab_size=99,
        max_position_embeddings=64,
    )
    return transformers.BertModel(config, add_pooling_layer=False), {}


def _llama() -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=128,
        vocab_size=99,
        max_position_embeddings=64,
    )
    return transformers.LlamaModel(config), {"use_cache": False}


@pytest.mark.slow
@both
@pytest.mark.parametrize("make", [_bert, _llama])
def test_language_models_keep_their_budget_on_ragged_masks(
    make: Any, precision: str, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")

    class Whole(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.model, self.options = make()

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            found = self.model(input_ids=input_ids, attention_mask=attention_mask, **self.options)
            return found.last_hidden_state

    torch.manual_seed(0)
    mask = torch.ones(2, 16, dtype=torch.int64)
    mask[1, 9:] = 0
    axes = {0: "batch", 1: "sequence"}
    engine = infopt.optimize(
        Whole().eval(),
        tmp_path / "e",
        target=CUDA,
        precision=precision,
        measure=False,
        example_inputs={"input_ids": torch.randint(0, 99, (2, 16)), "attention_mask": mask},
        dynamic_shapes={"input_ids": axes, "attention_mask": axes},
    )
    found = engine.manifest.evidence["equivalence"]
    assert found["holds"]
    assert found["least_sqnr"] == BUDGETS[precision].least_sqnr
    worst = min(output["sqnr_db"] for output in found["outputs"].values())
    # Two layers lose less than the fifty of the budget; with much more it would not be 16 bits.
    assert BUDGETS[precision].least_sqnr + 5 < worst < 90
    converting = _converting(engine)
    names = {change["node"] for change in converting["changes"]}
    assert len(names) > 4 * len(converting["refusals"])
    for entry in converting["refusals"]:
        assert any(word in entry["reason"] for word in ("angle", "only moves", "Cos", "Sin"))
    model = files.read_onnx(engine.path / files.MODEL_FILE)
    weights = [v for v in model.graph.initializers.values() if v.shape and len(v.shape) == 2]
    half = ir.DataType.FLOAT16 if precision == "fp16" else ir.DataType.BFLOAT16
    assert weights
    assert {value.dtype for value in weights} <= {half, ir.DataType.INT64}
