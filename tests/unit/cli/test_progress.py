import io

import pytest

from infopt.cli.console import console_on
from infopt.cli.progress import Progress
from infopt.errors import ShapeError
from infopt.events import Event

Capture = pytest.CaptureFixture[str]


def _lines(capsys: Capture) -> list[str]:
    return [" ".join(line.split()[:-2]) for line in capsys.readouterr().err.splitlines() if line]


def test_each_finished_stage_leaves_a_line(capsys: Capture) -> None:
    with Progress() as progress:
        progress(Event("import", "model.onnx"))
        progress(Event("pass", "fold-constants", 1, 2))
        progress(Event("pass", "merge-chains", 2, 2))
        progress(Event("verify", "the original"))
        progress(Event("verify", "6 samples"))
        progress(Event("write", "model.engine"))
    assert _lines(capsys) == [
        "Imported model.onnx",
        "Optimized 2 pass runs",
        "Checked the original",
        "Checked 6 samples",
        "Wrote model.engine",
    ]


def test_a_stage_that_failed_leaves_none(capsys: Capture) -> None:
    def work() -> None:
        with Progress() as progress:
            progress(Event("import", "model.onnx"))
            progress(Event("verify", "6 samples"))
            raise ShapeError("no")

    with pytest.raises(ShapeError):
        work()
    assert _lines(capsys) == ["Imported model.onnx"]


def test_quiet(capsys: Capture) -> None:
    with Progress(quiet=True) as progress:
        progress(Event("import", "model.onnx"))
    assert capsys.readouterr().err == ""


def test_a_stage_without_a_verb_is_called_by_its_name(capsys: Capture) -> None:
    with Progress() as progress:
        progress(Event("tune", "tactics"))
    assert _lines(capsys) == ["tune tactics"]


def test_the_moving_line_is_one_line_on_any_terminal() -> None:
    console = console_on(io.StringIO(), width=40)
    progress = Progress(quiet=True)
    progress(Event("measure", "input_ids=1×7 attention_mask=1×7 token_type_ids=1×7"))
    lines = console.render_lines(progress._moving(), pad=False)
    text = "".join(segment.text for segment in lines[0])
    assert len(lines) == 1
    assert text.endswith("…")
    assert "Measuring input_ids" in text
