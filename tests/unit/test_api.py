import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import infopt
from infopt import record
from infopt.errors import (
    InfoptError,
    Interrupted,
    OutputError,
    SourceError,
    TargetError,
    UsageError,
)
from infopt.events import Event

TEXT = """
<ir_version: 8, opset_import: ["" : 18]>
g (float[n,4] x) => (float[n,4] y)
<float[4] one = {1.0, 1.0, 1.0, 1.0}, float[4] same = {1.0, 1.0, 1.0, 1.0}>
{
   a = Mul (x, one)
   i = Identity (a)
   y = Add (i, same)
}
"""
PROTO = onnx.parser.parse_model(TEXT)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    onnx.save(PROTO, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_the_story(source: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(source, tmp_path / "e")
    manifest = engine.manifest
    assert manifest.sizes["nodes_before"] == 3
    assert manifest.sizes["nodes_after"] == 1
    assert manifest.evidence["speed"]["subjects"]["engine"]["ratio"]["verdict"]
    assert manifest.source["kind"] == "onnx"
    assert manifest.source["opset"] == "18"
    assert manifest.versions["infopt"] == infopt.__version__
    x = np.random.default_rng(0).standard_normal((5, 4), dtype=np.float32)
    np.testing.assert_allclose(infopt.load(tmp_path / "e")(x=x)["y"], x + 1)


def test_every_form_of_the_same_model_gives_the_same_engine(source: Path, tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text(TEXT)
    digests = {
        infopt.optimize(form, tmp_path / "e", verify=False).manifest.model_digest
        for form in (source, str(source), tmp_path / "model.txt", PROTO, ir.from_proto(PROTO))
    }
    assert len(digests) == 1


def test_the_callers_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = ir.from_proto(PROTO)
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    infopt.optimize(model, tmp_path / "e", measure=False)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_the_default_output_is_named_after_the_source(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert infopt.optimize(source, verify=False).path == Path("model.engine")
    assert (tmp_path / "model.engine" / "manifest.json").exists()


def test_a_pipeline_as_text(source: Path, tmp_path: Path) -> None:
    engine = infopt.optimize(source, tmp_path / "e", pipeline="eliminate-noops", measure=False)
    assert engine.manifest.pipeline == "eliminate-noops"


def test_compare(source: Path, tmp_path: Path) -> None:
    infopt.optimize(source, tmp_path / "e", verify=False)
    assert infopt.compare(tmp_path / "e", source).holds
    other = onnx.ModelProto.FromString(PROTO.SerializeToString())
    other.graph.node[2].op_type = "Sub"
    found = infopt.compare(other, tmp_path / "e", tolerance=1e-3)
    assert not found.holds
    assert found.worst > 0.1


def test_benchmark(source: Path, tmp_path: Path) -> None:
    infopt.optimize(source, tmp_path / "e", verify=False)
    found = infopt.benchmark(source, tmp_path / "e", shapes=["x=1..64x4"], seconds=0.2, threads=1)
    assert found.subjects == (str(source), str(tmp_path / "e"))
    assert [sample for sample, _ in found.runs] == ["x=1×4", "x=64×4"]
    ratio = found.runs[0][1].ratio(str(tmp_path / "e"))
    assert ratio.low <= ratio.value <= ratio.high


def test_benchmark_of_nothing() -> None:
    with pytest.raises(UsageError, match="nothing to measure"):
        infopt.benchmark()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"target": "onnxruntime:gpu"}, TargetError, "did you mean 'onnxruntime:c"),
        ({"precision": "fp23"}, UsageError, "no precision 'fp23'; did you mean 'fp32'"),
        ({"pipeline": "fold-constant"}, UsageError, "did you mean 'fold-constants'"),
        ({"shapes": ["x=1"]}, UsageError, "rank 1 is given for input 'x'"),
        ({"data": "absent.npz"}, UsageError, "there is no data at absent.npz"),
        ({"tolerance": -1}, UsageError, "at least 0"),
    ],
)
def test_wrong_arguments(
    source: Path,
    tmp_path: Path,
    arguments: dict[str, object],
    error: type[InfoptError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        infopt.optimize(source, tmp_path / "e", **arguments)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_missing_source_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent\.onnx"):
        infopt.optimize(tmp_path / "absent.onnx", tmp_path / "out" / "e")
    assert not (tmp_path / "out" / "e").exists()


def test_foreign_output_is_refused_before_any_work(source: Path, tmp_path: Path) -> None:
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "mine").write_text("")
    events: list[Event] = []
    with pytest.raises(OutputError):
        infopt.optimize(source, tmp_path / "e", on_event=events.append)
    assert not events


@pytest.mark.parametrize("stage", ["import", "verify", "pass", "compile", "measure", "write"])
def test_ctrl_c_at_any_stage_leaves_nothing(source: Path, tmp_path: Path, stage: str) -> None:
    def interrupt(event: Event) -> None:
        if event.stage == stage:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="nothing half-written"):
        infopt.optimize(source, tmp_path / "e", on_event=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_import_infopt_is_instant() -> None:
    code = (
        "import sys, infopt\n"
        "slow = {'onnx', 'onnx_ir', 'numpy', 'torch', 'onnxruntime', 'rich'} & set(sys.modules)\n"
        "assert not slow, slow\n"
        "assert callable(infopt.optimize)\n"
        "assert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_public_names() -> None:
    assert set(dir(infopt)) >= {"optimize", "load", "compare", "benchmark", "Engine", "Session"}
    with pytest.raises(AttributeError, match="has no attribute 'optimise'"):
        infopt.optimise  # noqa: B018


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("model.onnx", "model.engine"),
        ("a/encoder/", "encoder.engine"),
        ("org/name", "name.engine"),
        ("x.y.onnx", "x.y.engine"),
        (object(), "object.engine"),
    ],
)
def test_default_outputs(source: object, output: str) -> None:
    assert record.destination(None, source, ".engine") == Path(output)
    assert record.destination("there", source, ".engine") == Path("there")
