"""How every command ends: an answer or an error, and an exit code.

With ``--json`` stdout carries exactly one JSON document, be it an answer or
``{"error": {"type": …, "message": …}}``; without it, the answer goes to stdout as tables.
Errors and progress go to stderr in both cases.
"""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import sys
import threading
import traceback
from types import FrameType
from typing import IO

import click

from infopt.cli.answer import Answer
from infopt.errors import InfoptError, Interrupted, StorageError

DEFECT = 3
"""Exit code of an error that is infopt's own: the work was not done, and no check was made."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Interrupts:
    """Hears Ctrl-C, so that an error that follows from it is told for what it is.

    A ``KeyboardInterrupt`` in the middle of another library's import or call comes out as
    whatever that library makes of it: an ``ImportError``, say.
    """

    def __init__(self) -> None:
        self.heard = False

    def __enter__(self) -> Interrupts:
        """Listen, where that is possible: only the main thread may."""
        self._before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(self, *_: object) -> None:
        """Leave everything as it was."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.heard = True
        raise KeyboardInterrupt


def deliver(result: object, *, as_json: bool) -> int:
    """Print what a command returned.

    Args:
        result: An :class:`Answer`; click's own endings (``--help``, ``--version``) give an exit
            code or ``None`` instead and have printed already.
        as_json: Print the document rather than the view.

    Returns:
        The exit code.
    """
    if not isinstance(result, Answer):
        return result if isinstance(result, int) else 0
    if sys.stdout is None:  # closed by the caller, who wants the exit code alone
        return result.exit_code
    try:
        if as_json:
            _print_json(result.document)
        else:
            _print_view(result)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has seen enough (`infopt passes | head`); the result itself stands.
        _silence(sys.stdout)
    return result.exit_code


def fail(error: BaseException, *, as_json: bool, interrupted: bool = False) -> int:
    """Say what went wrong, on stderr and with ``as_json`` also on stdout.

    Args:
        error: What was raised.
        as_json: Whether stdout is to carry a document.
        interrupted: Whether Ctrl-C was pressed, whatever ``error`` is.

    Returns:
        The exit code: that of the :class:`InfoptError`, 2 for wrong usage, and :data:`DEFECT`
        for anything that no user can cause, which keeps its traceback.
    """
    if isinstance(error, SystemExit | GeneratorExit):
        raise error
    if isinstance(error, BrokenPipeError):
        _silence(sys.stdout)
        _silence(sys.stderr)
        return DEFECT
    if interrupted and not isinstance(error, Interrupted):
        error = KeyboardInterrupt()
    try:
        return _tell(_as_infopt_error(error), as_json=as_json)
    except BrokenPipeError:
        _silence(sys.stdout)
        _silence(sys.stderr)
        return DEFECT


def _tell(error: BaseException, *, as_json: bool) -> int:
    from infopt.cli.console import print_error

    kind, message, hint = type(error).__name__, str(error), ""
    if isinstance(error, InfoptError):
        code = error.exit_code
    elif isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    elif isinstance(error, click.ClickException):
        kind, message, code = "UsageError", error.format_message(), 2
        context = getattr(error, "ctx", None)
        if context is not None:
            hint = f"`{context.command_path} --help` shows how to call it"
    else:
        code = DEFECT
        traceback.print_exception(error)
        hint = "this is a defect of infopt: please report it together with the lines above"
        message = f"{kind}: {message}" if message else kind
    print_error(message, hint)
    if as_json and sys.stdout is not None:
        _print_json({"error": {"type": kind, "message": message}})
        sys.stdout.flush()
    return code


def _as_infopt_error(error: BaseException) -> BaseException:
    """Errors of the surroundings (Ctrl-C, a full disk) in infopt's own words."""
    if isinstance(error, KeyboardInterrupt | EOFError | click.Abort):
        return Interrupted("interrupted; nothing half-written was left behind")
    if isinstance(error, OSError) and error.errno in _FULL:
        where = f" while writing {error.filename}" if error.filename else ""
        return StorageError(
            f"{os.strerror(error.errno)}{where}; free some space or choose another disk"
        )
    return error


def _print_view(answer: Answer) -> None:
    view = answer.view()
    if isinstance(view, str):
        sys.stdout.write(view)
        return
    from infopt.cli.console import stdout

    console = stdout()
    if console.is_terminal:
        console.print(view)
        return
    # The cells of a table are filled up with blanks, which a file or a pipe has no use for.
    with console.capture() as captured:
        console.print(view)
    for line in captured.get().splitlines():
        sys.stdout.write(line.rstrip() + "\n")


def _print_json(document: object) -> None:
    text = json.dumps(_finite(document), indent=2, allow_nan=False)
    sys.stdout.write(text + "\n")


def _finite(value: object) -> object:
    """``value`` with infinities and NaN as the strings ``"inf"``, ``"-inf"``, ``"nan"``.

    JSON has no such numbers, and an infinite SQNR (bit for bit equal) must not read like one
    that was not measured.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _silence(stream: IO[str]) -> None:
    """Send what is still buffered nowhere, so that the interpreter's exit stays quiet."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, stream.fileno())
    except (OSError, ValueError):
        pass  # a stream without a file descriptor has nothing to flush at exit
    finally:
        os.close(devnull)
