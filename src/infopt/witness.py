"""The witness: the model as it came, able to say what is right, and on which inputs."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir as ir

from infopt.backends.base import Backend, RunOptions, Session
from infopt.errors import CompileError, DataError, UsageError
from infopt.evidence import shapes as shapes_
from infopt.evidence.data import DataSource, load_data
from infopt.evidence.equivalence import Budget, Equivalence, Outputs, Runner, Sample, compare
from infopt.evidence.extents import Extents
from infopt.evidence.metrics import OutputKind
from infopt.evidence.synthetic import required_inputs, synthesize
from infopt.importers import Imported, normalize
from infopt.ir import files, queries

MOST_SAMPLES = 64
"""So many samples of the user's data are compared: calibration may take thousands."""

TIME_LIMIT = 20.0
"""Seconds for one run of the original on synthetic inputs: a model may loop for ever."""


@dataclasses.dataclass(frozen=True)
class Witness:
    """The model as it came: what it computes, and on which inputs it can be asked."""

    file: Path
    """The model before the first pass."""
    session: Session
    """Runs it on the processor with the runtime's optimizations off."""
    described: str
    samples: tuple[Sample, ...]
    notes: tuple[str, ...]
    """What could not be tried, and why."""
    kinds: Mapping[str, OutputKind]
    """What is known of each output."""
    expected: tuple[tuple[Sample, Outputs], ...]
    """What the source's own framework computes, where there is one."""

    def model(self) -> ir.Model:
        """A fresh copy of the model."""
        return normalize(files.read_onnx(self.file), self.file.name)

    def examine(self, candidate: Runner, budget: Budget) -> Equivalence:
        """Compare ``candidate`` with the model on all samples."""
        return compare(
            candidate,
            self.session,
            self.samples,
            budget=budget,
            described=self.described,
            kinds=self.kinds,
            notes=self.notes,
        )

    def examine_import(self, budget: Budget) -> Equivalence | None:
        """Compare the model with the framework that it was exported from, if there is one."""
        if not self.expected:
            return None
        outputs = {id(sample.inputs): outputs for sample, outputs in self.expected}
        return compare(
            self.session,
            lambda inputs: outputs[id(inputs)],
            [sample for sample, _ in self.expected],
            budget=budget,
            described="the source framework itself",
            kinds=self.kinds,
        )


def call_witness(
    imported: Imported,
    backend: Backend,
    scratch: Path,
    *,
    shapes: shapes_.Shapes,
    data: DataSource | None,
    seed: int,
    profiles: Sequence[Extents] = (),
) -> Witness:
    """Keep the model as it is now, and find inputs on which it runs.

    Args:
        imported: The model, before any pass.
        backend: Whose runtime computes the reference.
        scratch: Room for a copy of the model, where its own file does not run.
        shapes: Sizes of dynamic dimensions, as the user wants them.
        data: The user's inputs.
        seed: Of synthetic inputs.
        profiles: Further bounds, where an engine is built for several; synthetic inputs then lie
            within one of them each.

    Raises:
        CompileError: The runtime cannot run the model even untouched.
        DataError: The data does not fit, or no inputs could be found on which the model runs.
        UnavailableError: There is no runtime.
        UsageError: ``shapes`` contradicts the model, or it does not finish on synthetic inputs.
    """
    model = imported.model
    # Whoever brings data knows how long the model takes on it.
    options = RunOptions(time_limit=TIME_LIMIT if data is None else None)
    file, session, described = _reference(imported, backend, scratch, options)
    examples = [Sample(inputs, "the importer's example") for inputs in imported.samples]
    samples, notes = find_samples(
        model,
        session,
        shapes=shapes,
        data=data,
        examples=examples,
        seed=seed,
        profiles=profiles,
    )
    return Witness(
        file=file,
        session=session,
        described=described,
        samples=tuple(samples),
        notes=notes,
        kinds=output_kinds(model),
        expected=tuple(zip(examples, imported.expected, strict=False)),
    )


def _reference(
    imported: Imported, backend: Backend, scratch: Path, options: RunOptions
) -> tuple[Path, Session, str]:
    if imported.path is not None:
        try:
            session = backend.reference(imported.path, options)
        except CompileError:
            pass  # too new for the runtime, perhaps: converted to our opset it may run
        else:
            return imported.path, session, "the original file, runtime optimizations off"
    backend.compile(imported.model, scratch)
    file = scratch / files.MODEL_FILE
    what = "the model as exported" if imported.path is None else "the original at our opset"
    return file, backend.reference(file, options), f"{what}, runtime optimizations off"


def find_samples(
    model: ir.Model,
    run: Runner,
    *,
    shapes: shapes_.Shapes,
    data: DataSource | None = None,
    examples: Sequence[Sample] = (),
    seed: int = 0,
    profiles: Sequence[Extents] = (),
) -> tuple[list[Sample], tuple[str, ...]]:
    """Inputs to compare on: the user's data, or the importer's examples and synthetic ones.

    Synthetic inputs take two sizes of every dynamic dimension; sizes at which the model
    itself does not run are passed over.

    Returns:
        The samples, and notes on what could not be tried.

    Raises:
        DataError: The data does not fit, or no inputs could be found on which the model runs.
        UsageError: ``shapes`` contradicts the model.
    """
    bound = shapes_.bind(model.graph.inputs, shapes)
    if data is not None:
        given = list(itertools.islice(load_data(data, model), MOST_SAMPLES + 1))
        more = (f"only the first {MOST_SAMPLES} samples of the data were compared",)
        return given[:MOST_SAMPLES], more if len(given) > MOST_SAMPLES else ()
    several = [{dim: (e.least, e.most) for dim, e in each.items()} for each in profiles]
    found: list[Sample] = []
    notes: tuple[str, ...] = ()
    for number, bounds in enumerate(several or [bound]):
        synthetic, said = _synthetic(model, run, bounds, seed + 10 * number)
        if several and not synthetic:
            said = tuple(f"profile {number + 1} was not compared: {each}" for each in said)
        found, notes = [*found, *synthetic], (*notes, *said)
    samples = found if bound or several else [*examples, *found]
    if not samples:
        related = _RELATED if len(shapes_.dynamic(required_inputs(model))) > 1 else ""
        raise DataError(
            f"no synthetic inputs were found on which the model runs ({'; '.join(notes)}); "
            f"{related}give real ones with --data, or sizes with --shape"
        )
    return samples, notes


_RELATED = (
    "sizes that depend on one another, such as a mask over past and new tokens together, cannot "
    "be guessed: "
)


def _synthetic(
    model: ir.Model, run: Runner, bound: Mapping[shapes_.Dim, shapes_.Range], seed: int
) -> tuple[list[Sample], tuple[str, ...]]:
    reason = ""  # of the first sizes, the smallest: the likeliest to say what is the matter
    for sizes in shapes_.proposals(required_inputs(model), bound):
        samples: list[Sample] = []
        failed: list[str] = []
        for number, combination in enumerate(sizes.combinations()):
            inputs = synthesize(model, combination, seed=seed + number, ragged=number % 2 == 1)
            sample = Sample(inputs, f"synthetic, seed {seed + number}")
            try:
                run(sample.inputs)
            except DataError as error:
                reason = reason or f"at {sample.shapes()}: {error}"
                failed.append(sample.shapes())
                if not samples:
                    break  # not even the smaller sizes run: try others
            except UsageError:  # it took too long
                if samples or not reason:
                    raise
                # Guesses grow: those to come take longer still. What is the matter is that
                # smaller ones do not fit the model.
                return [], (f"{reason}; and at {sample.shapes()} it takes too long",)
            else:
                samples.append(sample)
        if samples:
            return samples, tuple(f"the original itself does not run at {it}" for it in failed)
    return [], (reason,)


_BOUNDED = ("Sigmoid", "HardSigmoid", "Softmax", "Tanh", "Softsign", "Erf", "Sin", "Cos")
_MOVING = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather")
_SCORING = ("Softmax", "LogSoftmax", "Gemm", "MatMul", "Add")


def output_kinds(model: ir.Model) -> dict[str, OutputKind]:
    """What is known of each output of ``model``.

    An output counts as scores of classes if it is [n, classes] and is called so, or comes
    from a last layer as classifiers have it.
    """
    kinds = {}
    for value in model.graph.outputs:
        name, shape, producer = value.name or "", value.shape, value.producer()
        named = re.search(r"logit|prob|score|softmax|class", name, re.IGNORECASE)
        made = producer is not None and queries.is_standard(producer, *_SCORING)
        rows = shape is not None and len(shape) == 2 and shape[1] != 1
        while producer is not None and queries.is_standard(producer, *_MOVING):
            source = producer.inputs[0]
            producer = None if source is None else source.producer()
        bounded = producer is not None and queries.is_standard(producer, *_BOUNDED)
        kinds[name] = OutputKind(rows and bool(named or made), 1.0 if bounded else 0.0)
    return kinds
