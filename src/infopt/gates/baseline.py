"""Baseline: what is remembered of an engine, as a file that people review and commit.

The file is JSON, made to be read in a review, and read as if by an enemy: it may come with a pull
request. It names no code: a metric or data that it was taken with is given again by whoever
checks, and only its name or digest is compared.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infopt import record
from infopt.engine import TensorSpec
from infopt.errors import BaselineError
from infopt.gates.facts import INTENDED, Error, Facts, Memory, Metric
from infopt.gates.reading import Part, parse
from infopt.measure.statistics import Ratio
from infopt.outputs import write_text

FORMAT = "infopt-baseline"
SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Reference:
    """The model whose speed and outputs all others are multiples of."""

    place: str
    """Where it is: relative to the baseline's directory, or absolute; or a hub id."""
    digest: str
    """Content digest of the model as it is imported."""


@dataclasses.dataclass(frozen=True)
class Conditions:
    """On what the facts were taken; a check takes its own on the same."""

    shapes: Mapping[str, tuple[tuple[int, int], ...]]
    """Sizes that were asked for."""
    seed: int
    samples: str
    """Digest of all inputs."""
    data: bool
    """Whether these were given, and not made up."""
    threads: int
    """Threads of one operator."""


@dataclasses.dataclass(frozen=True)
class Baseline:
    """Facts of an engine that counts as good, and what they were taken on."""

    engine: str
    """What it is called."""
    digest: str
    """Content digest of its model."""
    target: str
    precision: str
    reference: Reference
    conditions: Conditions
    facts: Facts
    versions: Mapping[str, str]
    hardware: Mapping[str, str | int]

    def document(self) -> dict[str, Any]:
        """What the file holds."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields |= {
            "reference": dataclasses.asdict(self.reference),
            "conditions": dataclasses.asdict(self.conditions),
            "facts": self.facts.as_dict(),
        }
        return {"format": FORMAT, "schema_version": SCHEMA_VERSION, **fields}

    def write(self, file: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            StorageError: That is not possible.
        """
        document = record.plain(self.document())
        text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False)
        write_text(file, text + "\n")


def read_baseline(file: Path) -> Baseline:
    """Read a baseline, every field of it checked.

    Raises:
        BaselineError: There is none, or a field makes no sense; the message names it.
    """
    root = parse(file)
    if root.document.get("format") != FORMAT:
        raise BaselineError(f"{file} is no baseline of infopt; `infopt baseline` makes one")
    version = root.document.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BaselineError(
            f"{file} has schema version {version!r}, this infopt reads {SCHEMA_VERSION}; take the "
            "baseline again, or use the infopt that took it"
        )
    reference, conditions = root.part("reference"), root.part("conditions")
    return Baseline(
        engine=root.text("engine"),
        digest=root.text("digest"),
        target=root.text("target"),
        precision=root.choice("precision", tuple(INTENDED)),
        reference=Reference(reference.text("place"), reference.text("digest")),
        conditions=Conditions(
            shapes=_shapes(conditions.part("shapes")),
            seed=conditions.whole("seed", least=-(2**63)),
            samples=conditions.text("samples"),
            data=conditions.flag("data"),
            threads=conditions.whole("threads", least=1, most=4096),
        ),
        facts=_facts(root.part("facts")),
        versions={name: root.part("versions").text(name) for name in root.part("versions").names()},
        hardware=dict(root.part("hardware").document),
    )


def _facts(part: Part) -> Facts:
    errors, metric, memory = part.maybe("error"), part.maybe("metric"), part.maybe("memory")
    return Facts(
        inputs=tuple(map(_spec, part.parts("inputs"))),
        outputs=tuple(map(_spec, part.parts("outputs"))),
        operators=_counts(part.part("operators")),
        fusions=_counts(part.part("fusions")),
        products={
            name: part.part("products").texts(name) for name in part.part("products").names()
        },
        size=part.whole("size"),
        error=None
        if errors is None
        else {name: _error(errors.part(name)) for name in errors.names()},
        metric=None if metric is None else Metric(metric.text("name"), metric.number("value")),
        speed=_ratio(part.maybe("speed")),
        cold_start=_ratio(part.maybe("cold_start")),
        memory=None
        if memory is None
        else Memory(memory.whole("own", least=1), memory.whole("reference", least=1)),
        unknown={name: part.part("unknown").text(name) for name in part.part("unknown").names()},
    )


def _counts(part: Part) -> dict[str, int]:
    return {name: part.whole(name) for name in part.names()}


def _error(part: Part) -> Error:
    relative = part.number("max_relative", least=0.0, endless=True)
    return Error(relative, part.number("sqnr_db", endless=True))


def _ratio(part: Part | None) -> Ratio | None:
    if part is None:
        return None
    low, value, high = (part.number(name, least=0.0) for name in ("low", "value", "high"))
    if not 0 < low <= value <= high:
        raise part.wrong(
            "value", f"lie between low and high and above 0, not {low}, {value}, {high}"
        )
    confidence = part.number("confidence", least=0.5, most=1.0)
    return Ratio(value, low, high, confidence, part.number("noise", least=0.0, most=10.0))


def _shapes(part: Part) -> dict[str, tuple[tuple[int, int], ...]]:
    found = {}
    for name in part.names():
        ranges = part.listed(name)
        for item in ranges:
            sound = isinstance(item, list) and len(item) == 2 and all(type(n) is int for n in item)
            if not sound or not 0 <= item[0] <= item[1]:
                raise part.wrong(name, f"be a list of ranges [smallest, largest], not {ranges!r}")
        found[name] = tuple((low, high) for low, high in ranges)
    return found


def _spec(part: Part) -> TensorSpec:
    shape = part.document.get("shape")
    if shape is not None:
        for dim in part.listed("shape"):
            if dim is not None and type(dim) not in (int, str):
                raise part.wrong("shape", f"hold numbers, names and null, not {dim!r}")
    return TensorSpec(
        part.text("name"), part.text("dtype"), None if shape is None else tuple(shape)
    )
