"""Engines with weights of 4 bits: which kernels run, what is refused, how much memory it takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest

import infopt
from benchmarks import models, weights
from infopt.errors import StrictError, UsageError

_OPTIONS: Mapping[str, object] = {"verify": False, "precision": "int4"}


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.perceptron(tmp_path_factory.mktemp("perceptron"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[weights.Row]:
    room = tmp_path_factory.mktemp("rows")
    return weights.rows(weights.SUBJECTS[0], room, room)


@pytest.mark.parametrize("block", weights.BLOCKS)
@pytest.mark.parametrize("way", ["gptq", "awq"])
def test_data_cuts_the_error_of_rounding(rows: list[weights.Row], way: str, block: int) -> None:
    assert weights.left_of_nearest(rows)[way, block] < weights.LIMIT


def test_every_quantized_product_runs_as_one_kernel(rows: list[weights.Row]) -> None:
    assert {(row.products, row.quantized) for row in rows} == {(2, 2)}


def test_an_engine_without_data(perceptron: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(perceptron, tmp_path / "e", precision="int4", measure=False)
    manifest = engine.manifest
    assert "quantize-weights{algorithm=hqq}" in manifest.pipeline
    assert manifest.evidence["equivalence"]["holds"]
    outcome = manifest.evidence["outcome"]
    assert outcome["kernels"]["MatMulNBits"] == outcome["integer"] == outcome["rounding"] == 2
    assert not outcome["floating"]


def test_a_product_that_falls_back_is_named(perceptron: Path, tmp_path: Path) -> None:
    """ONNX Runtime has no kernel for blocks of 8."""
    options = {**_OPTIONS, "scheme": {"block": 8, "algorithm": "nearest"}}
    engine = infopt.optimize(perceptron, tmp_path / "e", **options)  # type: ignore[arg-type]
    outcome = engine.manifest.evidence["outcome"]
    assert outcome["integer"] == 0
    assert len(outcome["floating"]) == 2
    with pytest.raises(StrictError, match="outcome, floating: "):
        infopt.optimize(
            perceptron,
            tmp_path / "strict",
            precision="int4",
            scheme="block=8,algorithm=nearest",
            least_sqnr=0,
            data=weights.SUBJECTS[0].inputs(tmp_path)[0][:1],
            strict=True,
        )
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize("level", [0, 4])
def test_the_scheme_says_how(perceptron: Path, tmp_path: Path, level: int) -> None:
    options = {**_OPTIONS, "scheme": f"block=128,algorithm=nearest,accuracy_level={level}"}
    engine = infopt.optimize(perceptron, tmp_path / "e", **options)  # type: ignore[arg-type]
    assert "quantize-weights{block=128}" in engine.manifest.pipeline
    assert engine.manifest.evidence["outcome"]["rounding"] == (2 if level == 4 else 0)


def test_a_way_that_looks_at_data_needs_some(perceptron: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give real inputs with --data"):
        infopt.optimize(
            perceptron, tmp_path / "e", precision="int4", scheme="algorithm=awq", verify=False
        )


def test_for_cuda(perceptron: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(
        perceptron, tmp_path / "e", target="onnxruntime:cuda", precision="int4", measure=False
    )
    assert "lower-block-products{biases=false}" in engine.manifest.pipeline
    model = onnx.load(engine.file("model.onnx"), load_external_data=False)
    assert [node.op_type for node in model.graph.node].count("MatMulNBits") == 2
    assert engine.manifest.evidence["equivalence"]["holds"]


def test_a_model_need_not_fit_into_memory(tmp_path: Path) -> None:
    """It grows by what is written, not by what is read."""
    model = models.synthetic(tmp_path, layers=24, width=2048)
    small = models.synthetic(tmp_path, layers=1, width=2048)
    size = sum(file.stat().st_size for file in tmp_path.glob("synthetic-24x2048*"))
    peaks = []
    for number, file in enumerate((small, model)):
        room = tmp_path / str(number)
        room.mkdir()
        peaks.append(weights.memory(file, room)[0])
    assert size > 4e8
    assert peaks[1] - peaks[0] < 0.45 * size
