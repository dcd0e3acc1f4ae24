import errno
import json
import signal

import click
import pytest

from infopt import errors
from infopt.cli import ending
from infopt.cli.answer import Answer

Capture = pytest.CaptureFixture[str]


def test_an_answer_in_both_forms(capsys: Capture) -> None:
    answer = Answer({"ratio": 2.0}, lambda: "twice as fast\n", exit_code=1)
    assert ending.deliver(answer, as_json=False) == 1
    assert capsys.readouterr().out == "twice as fast\n"
    assert ending.deliver(answer, as_json=True) == 1
    assert json.loads(capsys.readouterr().out) == {"ratio": 2.0}


def test_numbers_that_json_lacks(capsys: Capture) -> None:
    answer = Answer({"sqnr": [float("inf"), float("-inf")], "x": (float("nan"),)}, lambda: "")
    ending.deliver(answer, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"sqnr": ["inf", "-inf"], "x": ["nan"]}


@pytest.mark.parametrize(
    "kind",
    [
        errors.UsageError,
        errors.PipelineError,
        errors.OutputError,
        errors.SourceError,
        errors.UnavailableError,
        errors.EngineError,
        errors.StorageError,
        errors.VerificationError,
        errors.StrictError,
    ],
)
def test_every_error_has_its_code(kind: type[errors.InfoptError], capsys: Capture) -> None:
    assert ending.fail(kind("what, where, what to do"), as_json=True) == kind.exit_code
    captured = capsys.readouterr()
    assert captured.err == "error: what, where, what to do\n"
    assert json.loads(captured.out) == {
        "error": {"type": kind.__name__, "message": "what, where, what to do"}
    }


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort(), EOFError()])
def test_ctrl_c(error: BaseException, capsys: Capture) -> None:
    assert ending.fail(error, as_json=False) == 3
    assert capsys.readouterr().err.startswith("error: interrupted")


def test_what_a_library_makes_of_ctrl_c(capsys: Capture) -> None:
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background
    with ending.Interrupts() as interrupts:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            error = errors.UnavailableError("ONNX Runtime is not installed")
    assert interrupts.heard
    assert signal.getsignal(signal.SIGINT) is before
    assert ending.fail(error, as_json=False, interrupted=interrupts.heard) == 3
    assert capsys.readouterr().err.startswith("error: interrupted")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk(number: int, capsys: Capture) -> None:
    assert ending.fail(OSError(number, "full", "/data/model.onnx"), as_json=True) == 3
    captured = capsys.readouterr()
    assert "/data/model.onnx" in captured.err
    assert "free some space" in captured.err
    assert json.loads(captured.out)["error"]["type"] == "StorageError"


def test_another_error_is_a_defect(capsys: Capture) -> None:
    assert ending.fail(KeyError("x"), as_json=False) == ending.DEFECT
    shown = capsys.readouterr().err
    assert shown.startswith("KeyError: 'x'")  # what the traceback of a raised one ends with
    assert "error: KeyError: 'x'" in shown
    assert "please report it" in shown


def test_messages_are_not_markup_and_not_folded(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    message = "node [bold]x[/bold] " + "of a long path " * 5 + ":smile:"
    ending.fail(errors.ShapeError(message), as_json=False)
    assert capsys.readouterr().err == f"error: {message}\n"


def test_exits_pass_through() -> None:
    with pytest.raises(SystemExit):
        ending.fail(SystemExit(0), as_json=False)
