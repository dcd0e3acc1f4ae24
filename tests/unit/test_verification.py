from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import infopt
from infopt.errors import DataError, StrictError, UsageError, VerificationError
from infopt.events import Event
from infopt.verification import budget
from infopt.witness import find_samples, output_kinds
from tests.support.confused import BROKEN, chain


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return chain(tmp_path)


def test_a_right_engine_says_how_exact_it_is(source: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(source, tmp_path / "e", measure=False)
    found = engine.manifest.evidence["equivalence"]
    assert found["holds"]
    assert found["outputs"]["y"]["max_relative"] <= 1e-6
    assert len(found["samples"]) >= 2
    assert "original file" in found["reference"]


def test_the_guilty_pass_rule_and_node_are_named(source: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    with pytest.raises(VerificationError) as caught:
        infopt.optimize(source, tmp_path / "e", pipeline=BROKEN, on_event=events.append)
    message = str(caught.value)
    assert "Guilty: confuse{spare=c}, rule sub-to-add at node 'e'" in message
    assert "output 'y' has relative error" in message
    assert "--force" in message
    assert any(event.stage == "bisect" for event in events)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chain.onnx"]


def test_force_writes_it_and_the_manifest_says_so(source: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(source, tmp_path / "e", pipeline=BROKEN, force=True, measure=False)
    assert not engine.manifest.evidence["equivalence"]["holds"]
    assert engine.manifest.evidence["culprit"]["node"] == "e"
    infopt.load(tmp_path / "e")


def test_a_wide_tolerance_lets_it_pass(source: Path, tmp_path: Path) -> None:
    infopt.optimize(source, tmp_path / "e", pipeline=BROKEN, tolerance=10.0, measure=False)


def test_without_verification_nothing_is_claimed(source: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(source, tmp_path / "e", pipeline=BROKEN, verify=False)
    assert engine.manifest.evidence["equivalence"].startswith("not measured")
    assert engine.manifest.evidence["speed"].startswith("not measured")


def test_strict_accepts_no_gaps(source: Path, tmp_path: Path) -> None:
    with pytest.raises(StrictError, match="equivalence was not measured"):
        infopt.optimize(source, tmp_path / "e", verify=False, strict=True)
    assert not (tmp_path / "e").exists()


def test_an_engine_for_cuda_is_simulated_where_there_is_no_gpu(
    source: Path, tmp_path: Path
) -> None:
    engine = infopt.optimize(source, tmp_path / "e", target="onnxruntime:cuda", measure=False)
    evidence = engine.manifest.evidence
    if evidence["equivalence"]["ran"] == "on onnxruntime:cuda":
        pytest.skip("there is a GPU")
    assert evidence["equivalence"]["holds"]
    assert evidence["target"].startswith("not measured: ")
    with pytest.raises(infopt.errors.UnavailableError):
        infopt.load(tmp_path / "e")


def test_models_that_draw_random_numbers_are_not_called_equal(tmp_path: Path) -> None:
    import onnx

    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[3] x) => (float[3] y, float[3] z) {
      noise = RandomNormalLike (x)
      y = Add (x, noise)
      z = Neg (x)
    }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    engine = infopt.optimize(tmp_path / "m.onnx", tmp_path / "e", measure=False)
    found = engine.manifest.evidence["equivalence"]
    assert found["undetermined"] == ("y",) or found["undetermined"] == ["y"]
    assert list(found["outputs"]) == ["z"]
    with pytest.raises(StrictError, match="undetermined: y"):
        infopt.optimize(tmp_path / "m.onnx", tmp_path / "e", measure=False, strict=True)


def test_data_is_what_is_compared_on(source: Path, tmp_path: Path) -> None:
    data = [{"x": np.full((7, 4), 3.0, np.float32)}]
    engine = infopt.optimize(source, tmp_path / "e", data=data, measure=False)
    assert engine.manifest.evidence["equivalence"]["samples"] == ["sample 0: x=7×4"]


def test_shapes_are_what_is_tried(source: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(source, tmp_path / "e", shapes=["x=2..9x4"], measure=False)
    tried = engine.manifest.evidence["equivalence"]["samples"]
    assert [text.rpartition(": ")[2] for text in tried] == ["x=2×4", "x=9×4"]


def test_shapes_that_contradict_the_model(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a dimension fixed at 4 cannot be 5"):
        infopt.optimize(source, tmp_path / "e", shapes={"x": (1, 5)})


def test_sizes_at_which_the_model_itself_fails_are_told(tmp_path: Path) -> None:
    import onnx

    text = """<ir_version: 8, opset_import: ["" : 18]>
    g (float[n,m] x) => (float[k,2] y) <int64[2] s = {-1, 2}> { y = Reshape (x, s) }"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    engine = infopt.optimize(tmp_path / "m.onnx", tmp_path / "e", measure=False)
    found = engine.manifest.evidence["equivalence"]
    assert found["holds"]
    with pytest.raises(DataError, match="no synthetic inputs"):
        infopt.optimize(tmp_path / "m.onnx", tmp_path / "e", shapes=["x=1x7"])


def test_kinds_of_outputs() -> None:
    model = ir.from_onnx_text("""
    <ir_version: 8, opset_import: ["" : 18]>
    g (float[n,4] x) => (float[n,4] p, float[n,4] r, float[4,n] s) {
      p = Softmax (x)
      r = Relu (x)
      t = Sigmoid (x)
      s = Transpose (t)
    }""")
    kinds = output_kinds(model)
    assert (kinds["p"].class_scores, kinds["p"].full_scale) == (True, 1.0)
    assert (kinds["r"].class_scores, kinds["r"].full_scale) == (False, 0.0)
    assert (kinds["s"].class_scores, kinds["s"].full_scale) == (False, 1.0)


@pytest.mark.parametrize("wrong", [-1.0, float("nan")])
def test_tolerances_that_are_none(wrong: float) -> None:
    with pytest.raises(UsageError, match="at least 0"):
        budget("fp32", wrong)


def _decoder(*, others: str = "") -> ir.Model:
    """A mask over past and new tokens together, each of a length of its own."""
    more = "".join(f", float[b,{name},4] {name}" for name in others.split())
    return ir.from_onnx_text(f"""
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[b,s,4] x, float[b,total] attention_mask, float[b,past,4] cache{more})
    => (float[b,t] y) {{
      joined = Concat <axis = 1> ({", ".join(["cache", "x", *others.split()])})
      axes = Constant <value_ints = [2]> ()
      summed = ReduceSum <keepdims = 0> (joined, axes)
      y = Mul (summed, attention_mask)
    }}""")


def test_a_mask_may_be_as_long_as_past_and_new_tokens(tmp_path: Path) -> None:
    import onnx

    onnx.save(ir.to_proto(_decoder()), tmp_path / "m.onnx")
    engine = infopt.optimize(tmp_path / "m.onnx", tmp_path / "e", measure=False)
    found = engine.manifest.evidence["equivalence"]
    assert found["holds"]
    assert not found["notes"]
    assert len(found["samples"]) == 6
    assert any("x=1×7×4 attention_mask=1×23 cache=1×16×4" in text for text in found["samples"])


def test_sizes_that_do_not_fit_are_not_called_slow() -> None:
    """Guesses grow until one takes too long; what is the matter is why the small ones failed."""
    tried = []

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        tried.append(inputs["x"].shape[1])
        if tried[-1] > 100:
            raise UsageError("the model has not finished after 20 s")
        raise DataError("the model cannot run on these inputs: Mul: 7 by 14")

    with pytest.raises(DataError) as caught:
        find_samples(_decoder(), run, shapes={})  # type: ignore[arg-type]
    message = str(caught.value)
    assert "at x=1×7×4 attention_mask=1×7 cache=1×7×4: the model cannot run" in message
    assert "7 by 14" in message
    assert "a mask over past and new tokens" in message
    assert "--data, or sizes with --shape" in message
    assert "has not finished" not in message
    assert tried == sorted(tried)
    assert tried[-2] < 100 < tried[-1]


def test_a_model_that_only_takes_long_says_so() -> None:
    def run(_: object) -> dict[str, np.ndarray]:
        raise UsageError("the model has not finished after 20 s")

    with pytest.raises(UsageError, match="has not finished"):
        find_samples(_decoder(), run, shapes={})


def test_sizes_that_cannot_be_guessed_can_be_given(tmp_path: Path) -> None:
    import onnx

    onnx.save(ir.to_proto(_decoder(others="memory")), tmp_path / "m.onnx")
    with pytest.raises(DataError, match=r"a mask over past and new tokens.*--shape"):
        infopt.optimize(tmp_path / "m.onnx", tmp_path / "e")
    shapes = ["x=1x2x4", "cache=1x3x4", "memory=1x4x4", "attention_mask=1x9"]
    engine = infopt.optimize(tmp_path / "m.onnx", tmp_path / "e", shapes=shapes, measure=False)
    assert engine.manifest.evidence["equivalence"]["holds"]
