from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from infopt import api
from infopt.errors import EngineError, ShapeError, UsageError
from infopt.inspection import inspect

TEXT = (
    '<ir_version: 8, opset_import: ["" : 17]> '
    "g (float[batch,length] x) => (float[batch,length] y) { y = Relu(x) }"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(TEXT), path)
    return path


def test_a_model_is_shown_as_it_is_and_not_as_it_is_imported(model: Path) -> None:
    found = inspect(model)
    assert (found.kind, found.opsets, found.ir_version) == ("onnx", {"ai.onnx": 17}, 8)
    assert found.inputs[0].shape == ("batch", "length")
    assert found.cost is not None
    assert found.cost.sizes == {"batch": 1, "length": 128}
    assert found.engine is None


@pytest.mark.parametrize(
    "shapes", [{"x": ((2, 3), (5, 5))}, {"batch": ((3, 3),), "length": ((5, 5),)}]
)
def test_sizes_are_given_by_input_or_by_dimension(
    model: Path, shapes: dict[str, tuple[tuple[int, int], ...]]
) -> None:
    found = inspect(model, shapes=shapes)
    assert found.cost is not None
    assert found.cost.flops == 15


def test_placeholders_are_no_names(model: Path) -> None:
    # Both dimensions are called "?", as some exporters do, and are not equal for that.
    proto = onnx.load(model)
    for dim in proto.graph.input[0].type.tensor_type.shape.dim:
        dim.dim_param = "?"
    onnx.save(proto, model)
    found = inspect(model, shapes={"x": ((2, 2), (5, 5))})
    assert found.cost is not None
    assert found.cost.flops == 10


def test_text_and_objects(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    path.write_text(TEXT)
    assert inspect(path).kind == "onnx-text"
    assert inspect(onnx.load(model)).name == "ModelProto"
    assert inspect(ir.load(model)).nodes == 1


def test_an_engine_brings_its_manifest(model: Path, tmp_path: Path) -> None:
    api.optimize(model, tmp_path / "engine", verify=False)
    found = inspect(tmp_path / "engine")
    assert found.kind == "engine"
    assert found.engine is not None
    assert found.engine.manifest.target == "onnxruntime:cpu"
    (tmp_path / "engine" / "model.onnx").write_bytes(b"")
    with pytest.raises(EngineError, match="damaged"):
        inspect(tmp_path / "engine")


def test_a_model_that_does_not_fit_the_default_sizes(tmp_path: Path) -> None:
    path = tmp_path / "fixed.onnx"
    body = "g (float[n,m] x, float[3,2] w) => (float[n,2] y) { [product] y = MatMul(x, w) }"
    onnx.save(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {body}'), path)
    found = inspect(path)
    assert found.cost is None
    assert "product" in found.cost_unknown
    assert found.operators == {"MatMul": 1}
    with pytest.raises(ShapeError, match="product"):
        inspect(path, shapes={"m": ((4, 4),)})
    with pytest.raises(UsageError, match="no such input or dynamic dimension"):
        inspect(path, shapes={"k": ((4, 4),)})
