"""Engines of integers whose ranges are found as they run: which kernels, what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

import infopt
from benchmarks import models, weights
from infopt.errors import QuantizationError, StrictError, UsageError, VerificationError
from infopt.verification import NOTHING_QUANTIZED

PRECISION = "int8-dynamic"


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.perceptron(tmp_path_factory.mktemp("perceptron"))


def test_an_engine_without_data(perceptron: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(perceptron, tmp_path / "e", precision=PRECISION, measure=False)
    manifest = engine.manifest
    assert manifest.precision == PRECISION
    assert "quantize-dynamic" in manifest.pipeline
    assert "calibrate" not in manifest.pipeline
    assert manifest.evidence["equivalence"]["holds"]
    (found,) = manifest.evidence["equivalence"]["outputs"].values()
    assert found["sqnr_db"] > 30
    outcome = manifest.evidence["outcome"]
    # The last layer, of 256 x 10 weights, is too small to pay.
    assert outcome["integer"] == outcome["rounding"] == 2
    assert outcome["kernels"]["MatMul"] == 1
    assert not outcome["floating"]
    (run,) = [run for run in manifest.passes if run["spec"] == "quantize-dynamic"]
    assert [refusal["reason"] for refusal in run["refusals"]] == [
        "its weights have 2,560 elements, fewer than 4,096"
    ]


def test_it_is_a_quarter_of_the_size(perceptron: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(perceptron, tmp_path / "e", precision=PRECISION, verify=False)
    sizes = engine.manifest.sizes
    assert sizes["weights_after"] < 0.3 * sizes["weights_before"]


def test_the_classes_are_kept(perceptron: Path, tmp_path: Path) -> None:
    """On points that nothing was trained on; and with a batch of one, and of none."""
    points, _ = weights.clusters(2048, 1)
    engine = infopt.optimize(perceptron, tmp_path / "e", precision=PRECISION, verify=False)
    exact = infopt.optimize(perceptron, tmp_path / "fp32", verify=False)
    session, right = infopt.load(engine.path), infopt.load(exact.path)
    (name,) = [spec.name for spec in session.outputs]
    found, expected = session(x=points)[name], right(x=points)[name]
    assert np.mean(found.argmax(axis=1) == expected.argmax(axis=1)) > 0.99
    assert session(x=points[:1])[name].shape == (1, 10)
    assert session(x=points[:0])[name].shape == (0, 10)


def test_what_the_runtime_is_given_is_what_runs(perceptron: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(perceptron, tmp_path / "e", precision=PRECISION, verify=False)
    model = onnx.load(engine.file("model.onnx"), load_external_data=False)
    given = Counter(node.op_type for node in model.graph.node)
    assert given["DynamicQuantizeMatMul"] == 2
    assert not given["DynamicQuantizeLinear"]
    kernels = engine.manifest.evidence["outcome"]["kernels"]
    assert kernels["DynamicQuantizeMatMul"] == 2
    # A product that a Relu follows reads its bias itself; the last layer has floats and an Add.
    assert kernels.get("Add", 0) == 1


@pytest.mark.parametrize("scheme", ["weights=uint8", "per_channel=false", "smallest=0"])
def test_the_scheme_says_how(perceptron: Path, tmp_path: Path, scheme: str) -> None:
    engine = infopt.optimize(
        perceptron, tmp_path / "e", precision=PRECISION, scheme=scheme, measure=False
    )
    assert f"quantize-dynamic{{{scheme}}}" in engine.manifest.pipeline
    assert engine.manifest.evidence["equivalence"]["holds"]
    assert engine.manifest.evidence["outcome"]["integer"] == (3 if "smallest" in scheme else 2)


def test_a_scheme_that_makes_no_sense(perceptron: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match="no weights 'int4'"):
        infopt.optimize(perceptron, tmp_path / "e", precision=PRECISION, scheme="weights=int4")
    with pytest.raises(UsageError, match=r"no option 'block'.*known: .*operators"):
        infopt.optimize(perceptron, tmp_path / "e", precision=PRECISION, scheme="block=32")


def test_not_for_cuda(perceptron: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Choose fp16, bf16 or int4 there, or the target"):
        infopt.optimize(perceptron, tmp_path / "e", target="onnxruntime:cuda", precision=PRECISION)


def test_the_guilty_product_is_found(perceptron: Path, tmp_path: Path) -> None:
    """More is asked of it than 8 bits can give."""
    with pytest.raises(VerificationError, match="Guilty: quantize-dynamic, rule quantize-dynamic"):
        infopt.optimize(
            perceptron, tmp_path / "e", precision=PRECISION, least_sqnr=80.0, measure=False
        )
    assert not (tmp_path / "e").exists()


@pytest.mark.slow
def test_a_real_encoder(tmp_path: Path) -> None:
    """Six products in each of six layers, and a pooler; queries, keys and values share a range."""
    engine = infopt.optimize(models.minilm(), tmp_path / "e", precision=PRECISION, measure=False)
    evidence = engine.manifest.evidence
    assert evidence["equivalence"]["holds"]
    outcome = evidence["outcome"]
    assert outcome["integer"] == outcome["rounding"] == 6 * 6 + 1
    assert outcome["kernels"]["DynamicQuantizeLinear"] == 6
    assert outcome["kernels"]["MatMulIntegerToFloat"] == 6 * 3
    assert outcome["kernels"]["DynamicQuantizeMatMul"] == 6 * 3 + 1
    assert not outcome["floating"]


def test_nothing_to_quantize_is_said(tmp_path: Path) -> None:
    """The user would take an engine of floats for one of integers."""
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> '
        "g (float[n,4] x) => (float[n,4] y) { y = Relu(x) }"
    )
    onnx.save(model, tmp_path / "model.onnx")
    found = infopt.optimize(
        tmp_path / "model.onnx", tmp_path / "e", precision=PRECISION, measure=False
    )
    assert found.manifest.evidence["outcome"]["notes"] == [NOTHING_QUANTIZED]
    with pytest.raises(StrictError, match="outcome, notes: nothing was quantized"):
        infopt.optimize(
            tmp_path / "model.onnx",
            tmp_path / "strict",
            precision=PRECISION,
            data=[{"x": np.ones((2, 4), np.float32)}],
            strict=True,
        )


def test_it_is_what_the_runtime_makes_of_standard_operators(tmp_path: Path) -> None:
    """A bias stands on the left here, as exporters write it."""
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> '
        "g (float[n,8] x) => (float[n,8] y) { p = MatMul(x, w) y = Add(b, p) }"
    )
    rng = np.random.default_rng(0)
    for name, shape in (("w", (8, 8)), ("b", (8,))):
        array = rng.normal(0, 1, shape).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "model.onnx")
    for number, lowered in enumerate(("", ",lower-quantized-products")):
        engine = infopt.optimize(
            tmp_path / "model.onnx",
            tmp_path / str(number),
            precision=PRECISION,
            pipeline="quantize-dynamic{smallest=0}" + lowered,
            measure=False,
        )
        assert engine.manifest.evidence["outcome"]["kernels"] == {"DynamicQuantizeMatMul": 1}
        given = onnx.load(engine.file("model.onnx"), load_external_data=False).graph.node
        assert len(given) == (1 if lowered else 6)


def test_what_onnxruntime_has_quantized(perceptron: Path, tmp_path: Path) -> None:
    """Its products are lowered like ours, at any precision."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(perceptron, tmp_path / "theirs.onnx", per_channel=True)
    engine = infopt.optimize(tmp_path / "theirs.onnx", tmp_path / "e", measure=False)
    assert engine.manifest.evidence["equivalence"]["holds"]
    model = onnx.load(engine.file("model.onnx"), load_external_data=False)
    given = Counter(node.op_type for node in model.graph.node)
    assert given["DynamicQuantizeMatMul"] == 3
