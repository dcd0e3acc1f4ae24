"""What a backend is."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from infopt.engine import TensorSpec
from infopt.errors import UnavailableError
from infopt.events import Listener
from infopt.evidence.extents import Extents
from infopt.passes.base import Pass
from infopt.pipeline import Step
from infopt.target import Target


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How a session runs; how fast, never what it computes."""

    threads: int | None = None
    """Threads of one operator; ``None`` lets the runtime use every core."""
    provider_options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The runtime's own options for the device, such as ``device_id``."""
    optimize: bool = True
    """Whether the runtime applies its own graph optimizations."""
    time_limit: float | None = None
    """Seconds after which a call is given up."""
    profile: Path | None = None
    """An empty directory for the runtime's profiler, if it should run: see :class:`Timeline`."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Which types a runtime really computes in, whatever the payload asks for."""

    kernels: Mapping[str, int]
    """The runtime's operator, and the type that it computes in → how many of its nodes."""
    integer: int
    """How many products and convolutions run on integers, or on what was asked for (``on``)."""
    floating: tuple[str, ...]
    """The names of those that were quantized and run on floating-point numbers all the same; or
    on wider ones than was asked for."""
    rounding: int = 0
    """How many of the integer ones round what they read to 8 bits, in ranges found as they run."""
    on: str = "integers"
    """What ``integer`` counts, where a runtime has others than integers: ``8-bit floats``."""
    layers: tuple[Mapping[str, Any], ...] = ()
    """Each layer of native code: its name, kind, kernel, types, and the nodes it was made of."""
    regions: int = 0
    """How many layers compute several nodes."""
    reformats: int = 0
    """How many layers only change a tensor's format or type."""
    notes: tuple[str, ...] = ()
    """What could not be found out."""
    advice: tuple[str, ...] = ()
    """What would be faster on this machine."""

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Span:
    """One run of one kernel, as the runtime's profiler noted it."""

    node: str
    """What the runtime calls the node: often what the engine does, sometimes an invented name."""
    value: str
    """The first value that the node computes, if the runtime tells: what it keeps of names."""
    operator: str
    provider: str
    outputs: tuple[tuple[str, tuple[int, ...]], ...]
    """Type and shape of each output."""
    start: float
    """Seconds since the session began to load."""
    seconds: float
    """From its begin to its end, the nodes of its own graphs included."""
    thread: int


@dataclasses.dataclass(frozen=True)
class Timeline:
    """What a session did, kernel by kernel, since it was loaded."""

    calls: tuple[tuple[float, float], ...]
    """Start and duration of each call of the session, in seconds."""
    spans: tuple[Span, ...]
    """In order of their starts."""


class Session(ABC):
    """Something that runs a model: ``outputs = session(input_ids=ids, attention_mask=mask)``."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parallel: ClassVar[bool] = True
    """Whether several threads may call it at once."""

    @abstractmethod
    def __call__(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, Any]:
        """Compute the outputs.

        Args:
            inputs: Arrays by input name; or give them as keywords.
            **named: The same.

        Returns:
            Arrays by output name: numpy arrays, or torch tensors if any input is one.

        Raises:
            DataError: A name, type or rank does not fit.
            UsageError: The call took longer than the session's options allow.
        """

    def facts(self) -> dict[str, Any]:
        """How it runs, as far as that was decided as it was loaded or called; for manifests."""
        return {}

    def timeline(self) -> Timeline:
        """End the profiling that :attr:`RunOptions.profile` asked for; what was noted.

        Raises:
            UsageError: It was not asked for.
            UnavailableError: The runtime has no profiler that infopt can read.
        """
        raise UnavailableError(
            "only sessions of ONNX Runtime can be profiled so far; for TensorRT, use its own tools "
            "(trtexec --dumpProfile, Nsight Systems)"
        )


class Backend(ABC):
    """Legalization, compilation and loading for one target."""

    bounded: ClassVar[bool] = False
    """Whether an engine is built for sizes between bounds, which then have to be known."""

    def __init__(self, target: Target) -> None:
        self.target = target

    @abstractmethod
    def precision(self, name: str, *, data: bool = False) -> tuple[Step, ...]:
        """The steps that write a precision into a raised model, as the target wants it.

        Args:
            name: The precision.
            data: Whether there is data to calibrate on, where the precision can do without.

        Raises:
            UsageError: The target cannot run it, or only slower; the message says what pays.
        """

    @abstractmethod
    def legalization(self) -> tuple[Pass, ...]:
        """The passes that bring a model into the form that the target runs fastest."""

    def check_options(self, options: RunOptions) -> None:
        """Refuse options that the target does not have, before any work is done.

        Raises:
            UsageError: There is no such option, or it cannot have that value.
        """
        del options  # the runtime will say so itself

    @abstractmethod
    def compile(self, model: ir.Model, directory: Path) -> None:
        """Write the payload of an engine into ``directory``.

        Raises:
            CompileError: The runtime refuses the model.
        """

    def build(
        self,
        directory: Path,
        profiles: Sequence[Extents],
        options: RunOptions,
        scratch: Path,
        tell: Listener,
    ) -> Mapping[str, Any]:
        """Add native code to the payload that :meth:`compile` wrote, where the target has any.

        Args:
            directory: The payload.
            profiles: The sizes that it is built for, at least one profile of them, where the
                target is ``bounded``.
            options: How to build, among others.
            scratch: Room for intermediate files.
            tell: Told of every step.

        Returns:
            What was built with what, for the manifest; empty where there is nothing to build.

        Raises:
            CompileError: The runtime refuses the model, or died over it.
            UnavailableError: What builds is not installed.
        """
        del directory, profiles, options, scratch, tell
        return {}

    @abstractmethod
    def load(self, directory: Path, options: RunOptions) -> Session:
        """A session for a payload that :meth:`compile` wrote.

        Raises:
            UnavailableError: The runtime or the device is not there.
            CompileError: The runtime refuses the payload.
        """

    @abstractmethod
    def simulate(self, directory: Path, options: RunOptions) -> Session:
        """A session that computes what the payload says on this machine's processor.

        The same as :meth:`load` where the target is the processor.
        """

    @abstractmethod
    def outcome(self, directory: Path) -> Outcome | None:
        """What the runtime makes of a payload on this machine; ``None`` if it cannot be asked."""

    @abstractmethod
    def open_model(self, model_file: Path, options: RunOptions) -> Session:
        """A session for any ONNX file, on the target, as the runtime runs it by default."""

    @abstractmethod
    def reference(self, model_file: Path, options: RunOptions) -> Session:
        """A session that runs an ONNX file as it is, on the processor, optimizations off."""

    @abstractmethod
    def unavailable(self) -> str | None:
        """Why the target cannot run here and what to do, or ``None`` if it can."""

    def unbuildable(self) -> str | None:
        """Why no engine can be built here and what to do, or ``None`` if one can."""
        return None

    def require(self, options: RunOptions) -> None:
        """Refuse what will not come to an end anyway, before any work.

        Raises:
            UsageError: There is no such option.
            UnavailableError: No engine can be built here.
        """
        self.check_options(options)
        reason = self.unbuildable()
        if reason is not None:
            raise UnavailableError(reason)
