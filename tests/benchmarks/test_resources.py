from pathlib import Path

from benchmarks import resources
from benchmarks.models import synthetic
from benchmarks.optimizers import size_of


def test_a_tool_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    model = synthetic(tmp_path, layers=2, width=64)
    run = resources.run_once("infopt", model)
    assert run.error == ""
    assert 0 < run.work < run.process
    assert run.peak_rss > 30 * resources.MB
    assert run.written > size_of(model)  # the weights, the graph and the manifest
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"{model.stem}.data", model.name]


def test_a_tool_that_fails_has_its_error_in_its_row(tmp_path: Path) -> None:
    model = tmp_path / "broken.onnx"
    model.write_bytes(b"not a model")
    run = resources.run_once("infopt", model)
    assert "is no model" in run.error
    row = resources._row("infopt", [run])
    assert row[1].startswith("failed: ")


def test_limits_are_checked() -> None:
    subject = resources.SUBJECTS[0]
    size = 437 * resources.MB
    within = resources.Run(work=2.9, process=4, peak_rss=900 * resources.MB, written=1)
    beyond = resources.Run(work=3.1, process=4, peak_rss=1000 * resources.MB, written=1)
    assert resources._missed(subject, size, [within]) == []
    assert len(resources._missed(subject, size, [beyond])) == 2
