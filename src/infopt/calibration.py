"""Calibration of a model: it runs on data, and its values are observed as they stream by."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from infopt.backends.base import Backend, RunOptions
from infopt.errors import CalibrationError, Interrupted, UsageError
from infopt.events import Event, Listener, ignore
from infopt.evidence.data import DataSource, count, load_data
from infopt.evidence.equivalence import Sample
from infopt.evidence.shapes import Shapes
from infopt.ir import digest
from infopt.quant import calibration_file
from infopt.quant.calibration import Calibration, Request
from infopt.witness import find_samples

if TYPE_CHECKING:
    from hashlib import _Hash

_SAVE_EVERY = 30.0
"""Seconds of calibrating after which what was observed is saved."""
UNFINISHED = ".unfinished.npz"
"""How the file is called that an unfinished calibration is kept in, after the result's own name."""
_SYNTHETIC_ROUNDS = 8
"""How often made-up inputs of each size are drawn."""


@contextlib.contextmanager
def _undivided() -> Iterator[None]:
    """Let Ctrl-C wait until the end: a sample counts for all values, or for none."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    heard: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: heard.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if heard:
        before(*heard[0])


class Enough(Exception):
    """A shard has been observed as far as it can be by itself."""


@dataclasses.dataclass
class Calibrator:
    """Observes a model wherever a pipeline calibrates; the same model is observed once only."""

    backend: Backend
    samples: Callable[[], Iterable[Sample]]
    """The data, from the start each time."""
    scratch: Path
    """Room for the model with its values as outputs."""
    total: int | None = None
    """How many samples there are, if that is known."""
    synthetic: bool = False
    """Whether the data is made up."""
    kept: Path | None = None
    """Where an unfinished calibration is kept, and continued from."""
    given: Sequence[Calibration] = ()
    """What is known already, of the models that it was observed of."""
    shard: bool = False
    """Whether the data is a part: what follows depends on the other parts, too."""
    options: RunOptions = dataclasses.field(default_factory=RunOptions)
    tell: Listener = ignore

    def __post_init__(self) -> None:
        self._known: dict[tuple[str, frozenset[Request]], Calibration] = {}

    @property
    def found(self) -> tuple[Calibration, ...]:
        """All that was observed, in order; not where no pass asked for anything."""
        return tuple(found for found in self._known.values() if found.requests)

    def evidence(self) -> list[dict[str, Any]]:
        """What a manifest says of it."""
        return [found.as_dict() for found in self.found]

    def forget(self) -> None:
        """Remove what was kept for another attempt."""
        if self.kept is not None:
            self.kept.unlink(missing_ok=True)

    def __call__(self, model: ir.Model, wanted: Collection[Request]) -> Calibration:
        """Run ``model`` on all samples and observe what is ``wanted``.

        Raises:
            CalibrationError: There are no samples.
            DataError: A sample does not fit the model.
            Enough: It is a shard, and something new was observed.
            Interrupted: The user stopped it; what was observed is kept.
        """
        name, asked = key = (digest.model_digest(model), frozenset(wanted))
        if key not in self._known:
            given = next((found for found in self.given if found.covers(name, asked)), None)
            self._known[key] = given or self._observe(model, name, asked)
            if self.shard and given is None:
                raise Enough
        return self._known[key]

    def _observe(self, model: ir.Model, name: str, wanted: frozenset[Request]) -> Calibration:
        calibration, running = self._start(name, wanted)
        values = sorted({request.value for request in wanted})
        if not values:
            return calibration
        room = self.scratch / f"calibration-{len(self._known)}"
        room.mkdir()
        self.backend.compile(with_outputs(model, values), room)
        run = self.backend.simulate(room, self.options)
        saved = time.monotonic()
        try:
            for sample in itertools.islice(self.samples(), calibration.samples, None):
                known = {**sample.inputs, **run(sample.inputs)}
                with _undivided():
                    calibration.update({value: np.asarray(known[value]) for value in values})
                    _add(running, sample)
                    calibration.data = f"sha256:{running.hexdigest()}"
                done = calibration.samples
                self.tell(Event("calibrate", f"{done:,} samples", done=done, total=self.total))
                if self.kept is not None and time.monotonic() - saved > _SAVE_EVERY:
                    self._keep(calibration, self.kept)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            raise Interrupted(self._interrupted(calibration)) from None
        if not calibration.samples:
            raise CalibrationError("there are no samples to calibrate on; give data")
        return calibration

    def _start(self, name: str, wanted: frozenset[Request]) -> tuple[Calibration, _Hash]:
        """An empty calibration, or an unfinished one of the same model on the same data."""
        fresh = Calibration.empty(name, wanted, synthetic=self.synthetic), hashlib.sha256()
        if self.kept is None or not self.kept.exists():
            return fresh
        with contextlib.suppress(CalibrationError):
            for found in calibration_file.load(self.kept):
                if found.model != name or set(found.requests) != wanted:
                    continue
                running = hashlib.sha256()
                for sample in itertools.islice(self.samples(), found.samples):
                    _add(running, sample)
                if found.data == f"sha256:{running.hexdigest()}":
                    return found, running
        return fresh

    def _keep(self, unfinished: Calibration, kept: Path) -> None:
        """Save what is finished and what is not, for another attempt."""
        calibration_file.save([*self.found, unfinished], kept)

    def _interrupted(self, calibration: Calibration) -> str:
        what = f"interrupted after {calibration.samples:,} samples of calibration"
        if self.kept is None or not (calibration.samples or self.found):
            return f"{what}; nothing half-written was left behind"
        self._keep(calibration, self.kept)
        return f"{what}; the same command continues there, from {self.kept}"


def calibrator(
    model: ir.Model,
    backend: Backend,
    scratch: Path,
    *,
    shapes: Shapes,
    data: DataSource | None,
    synthetic: bool,
    seed: int,
    kept: Path | None,
    given: Sequence[Calibration] = (),
    shard: bool = False,
    tell: Listener,
) -> Calibrator:
    """A calibrator on the user's data or, where the user asks for that, on made-up inputs.

    Raises:
        UsageError: There is no data.
    """
    made_up = data is None
    if data is not None:
        total, samples = count(data), functools.partial(load_data, data, model)
    elif synthetic:
        made = _made_up(model, backend, scratch / "synthetic", shapes, seed)
        total, samples = len(made), functools.partial(iter, made)
    else:
        raise UsageError(
            "this precision needs to see which values the model computes: give real inputs with "
            "--data (some hundred samples), choose int8-dynamic or int4, or allow made-up "
            "inputs with --synthetic-calibration, whose ranges may be far from real ones"
        )
    return Calibrator(
        backend,
        samples,
        scratch,
        total=total,
        synthetic=made_up,
        kept=kept,
        given=given,
        shard=shard,
        tell=tell,
    )


def _made_up(
    model: ir.Model, backend: Backend, room: Path, shapes: Shapes, seed: int
) -> list[Sample]:
    """Seeded inputs, several of each size."""
    room.mkdir()
    backend.compile(model, room)
    run = backend.simulate(room, RunOptions(optimize=False))
    seeds = (seed + 1000 * (number + 1) for number in range(_SYNTHETIC_ROUNDS))
    return [
        sample for each in seeds for sample in find_samples(model, run, shapes=shapes, seed=each)[0]
    ]


def with_outputs(model: ir.Model, values: Collection[str]) -> ir.Model:
    """A copy of ``model`` that returns these values of its main graph, too, but for its inputs."""
    copy = model.clone()
    wanted = set(values) - {value.name for value in copy.graph.outputs}
    computed = [output for node in copy.graph for output in node.outputs]
    copy.graph.outputs.extend(value for value in computed if value.name in wanted)
    return copy


def _add(running: _Hash, sample: Sample) -> None:
    for name, array in sample.inputs.items():
        contiguous = np.ascontiguousarray(array)
        running.update(f"{name} {contiguous.dtype} {contiguous.shape}\0".encode())
        running.update(contiguous.tobytes())
