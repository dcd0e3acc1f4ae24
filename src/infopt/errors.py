"""Every error that a user of infopt can cause.

    InfoptError
    ├── UsageError              the call itself is wrong                       exit code 2
    │   ├── PipelineError       a pipeline names an unknown pass or option
    │   ├── TargetError         a target that infopt does not know
    │   ├── DataError           sample data whose names, types or shapes do not fit
    │   ├── OutputError         an output directory that holds something else
    │   └── QuantizationError   a spec without meaning, or numbers that have no range
    ├── ModelError              the source cannot become a valid model         exit code 3
    │   ├── SourceError         missing, truncated, or no model at all
    │   ├── ExternalDataError   external weights missing, too short, or outside the directory
    │   ├── OpsetError          an operator or opset that nobody knows
    │   └── ShapeError          types or shapes contradict each other
    ├── ImportFailed            the exporter of another library gave up        exit code 3
    ├── UnavailableError        a library or device is not there               exit code 3
    ├── EngineError             an engine directory is damaged or foreign      exit code 3
    ├── CalibrationError        a calibration is missing, damaged, or useless  exit code 3
    ├── BaselineError           a baseline is damaged, or its reference lost   exit code 3
    ├── CompileError            the runtime refused the optimized model        exit code 3
    ├── StorageError            the disk is full or not writable               exit code 3
    ├── Interrupted             stopped by the user                            exit code 3
    └── CheckFailed             a check was made and did not hold              exit code 1
        ├── VerificationError   the optimized model computes something else
        ├── ExpectationError    fewer operators were raised than expected
        └── StrictError         ``strict`` forbids what happened

A message says what is wrong, where, and what to do. Anything that is not an
``InfoptError`` is a defect of infopt and keeps its traceback.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import ClassVar


class InfoptError(Exception):
    """Base of all errors that a user can cause; ``str(error)`` is the whole message."""

    exit_code: ClassVar[int] = 3


class UsageError(InfoptError):
    """The call is wrong: an argument contradicts itself, the model, or infopt."""

    exit_code = 2


class PipelineError(UsageError):
    """A pipeline text that does not parse, or names an unknown pass or option."""


class TargetError(UsageError):
    """A target that infopt does not know."""


class DataError(UsageError):
    """Sample data that does not fit the model's inputs."""


class OutputError(UsageError):
    """An output directory that infopt will not overwrite."""


class QuantizationError(UsageError):
    """A quantization that has no meaning, or numbers from which no scale can follow."""


class ModelError(InfoptError):
    """The source cannot become a valid model."""


class SourceError(ModelError):
    """The source is missing, truncated, or not a model."""


class ExternalDataError(ModelError):
    """External weights are missing, too short, or outside the model's directory."""


class OpsetError(ModelError):
    """The model uses an operator or an opset that is not known."""


class ShapeError(ModelError):
    """The types or shapes of the model contradict each other."""


class ImportFailed(InfoptError):
    """Another library's exporter could not turn the source into ONNX."""


class UnavailableError(InfoptError):
    """A library, execution provider or device is not there."""


class EngineError(InfoptError):
    """An engine directory is damaged, incomplete, or not an engine."""


class CalibrationError(InfoptError):
    """A calibration is missing, damaged, of another model, or nothing useful was observed."""


class BaselineError(InfoptError):
    """A baseline is missing, makes no sense, or its reference cannot be found."""


class CompileError(InfoptError):
    """The target's runtime refused the model."""


class StorageError(InfoptError):
    """Files could not be written."""


class Interrupted(InfoptError):
    """The user stopped the work; nothing was left half-written."""


class CheckFailed(InfoptError):
    """A check was made and did not hold."""

    exit_code = 1


class VerificationError(CheckFailed):
    """The optimized model does not compute what the original computes."""


class ExpectationError(CheckFailed):
    """Raising made fewer of an operator than the caller expects."""


class StrictError(CheckFailed):
    """Something happened that ``strict`` forbids."""


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C as an error that says what is left behind: nothing."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted; nothing half-written was left behind") from None


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the known name nearest to ``name``, or ``""``."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {match[0]!r}?" if match else ""
