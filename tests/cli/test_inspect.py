from __future__ import annotations

from pathlib import Path

import onnx

from tests.cli.support import Run, document, perceptron


def test_a_model_for_people(infopt: Run, model: Path) -> None:
    result = infopt("inspect", model, "--shape", "x=4x8", columns=90)
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = [line.rstrip() for line in result.stdout.splitlines()]
    assert lines[0].endswith("perceptron.onnx") or lines[0] in str(model)
    assert "onnx · from test 1 · opset 17 · IR version 8 · 7 nodes" in lines
    assert "inputs   x       float  batch×8" in lines
    assert "outputs  scores  float  batch×4" in lines
    assert "parameters  192" in lines
    assert "arithmetic  1.60 kFLOPs, 768 MACs  at batch = 4" in lines
    assert "memory      768 B of weights, 512 B of activations at the peak" in lines
    assert "MatMul        2  1.54 k  96.0%         192   320 B" in lines


def test_a_model_for_programs(infopt: Run, model: Path) -> None:
    found = document(infopt("inspect", model, "--json"))
    assert found["kind"] == "onnx"
    assert found["opsets"] == {"ai.onnx": 17}
    assert found["inputs"] == [{"name": "x", "dtype": "float", "shape": ["batch", 8]}]
    assert found["outputs"] == [{"name": "scores", "dtype": "float", "shape": ["batch", 4]}]
    assert found["nodes"] == 7
    assert found["operators"]["MatMul"] == 2
    assert found["cost"]["parameters"] == 8 * 16 + 16 * 4
    assert found["cost"]["macs"] == 8 * 16 + 16 * 4
    assert found["cost"]["sizes"] == {"batch": 1}
    assert "manifest" not in found


def test_an_engine_shows_its_manifest(infopt: Run, model: Path, engine: Path) -> None:
    found = document(infopt("inspect", engine, "--json"))
    assert found["kind"] == "engine"
    manifest = found["manifest"]
    assert manifest["target"] == "onnxruntime:cpu"
    assert manifest["source"]["name"] == model.name
    assert manifest["evidence"]["equivalence"]["holds"] is True
    assert set(manifest["files"]) >= {"model.onnx"}
    text = infopt("inspect", engine).stdout
    assert "onnxruntime:cpu, fp32" in text
    assert "sha256:" in text
    assert "How exact" in text
    assert "not measured" in text  # the speed: --no-bench


def test_the_text_form(infopt: Run, model: Path) -> None:
    result = infopt("inspect", model, "--text", columns=40)
    onnx_text = result.stdout
    assert 'opset_import: ["" : 17]' in onnx_text
    assert "dense1" in onnx_text
    assert any(len(line) > 40 for line in onnx_text.splitlines())  # it is not folded
    assert document(infopt("inspect", model, "--text", "--json"))["text"] == onnx_text


def test_operators_beyond_the_first_are_summed_up(infopt: Run, tmp_path: Path) -> None:
    names = ["Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Neg", "Relu", "Round", "Sigmoid"]
    names += ["Sign", "Sin", "Tanh", "Softplus"]
    chain = "\n".join(f"v{i + 1} = {name}(v{i})" for i, name in enumerate(names))
    path = tmp_path / "chain.onnx"
    text = (
        '<ir_version: 8, opset_import: ["" : 17]> '
        f"g (float[4] v0) => (float[4] v{len(names)}) {{ {chain} }}"
    )
    onnx.save(onnx.parser.parse_model(text), path)
    assert "2 more" in infopt("inspect", path).stdout
    assert "more" not in infopt("inspect", path, "--all").stdout


def test_an_unknown_operator_makes_a_lower_bound(infopt: Run, tmp_path: Path) -> None:
    proto = perceptron()
    proto.graph.node[3].domain = "mine"
    proto.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    path = tmp_path / "custom.onnx"
    onnx.save(proto, path)
    text = infopt("inspect", path).stdout
    assert "at least" in text
    assert "not counted" in text
    assert "mine::Relu" in text


def test_shapes_that_do_not_fit(infopt: Run, model: Path) -> None:
    result = infopt("inspect", model, "--shape", "x=4x9")
    assert result.exit_code == 2
    assert "fixed at 8" in result.stderr


def test_a_narrow_terminal_folds_and_cuts_nothing(infopt: Run, engine: Path) -> None:
    for columns in (40, 60):
        text = infopt("inspect", engine, columns=columns).stdout
        assert max(map(len, text.splitlines())) <= columns
        assert "…" not in text.replace("…", "", text.count("=…"))
