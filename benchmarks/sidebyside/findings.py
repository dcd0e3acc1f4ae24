"""What the results say: where infopt is ahead, where it is behind, and what nobody beats."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from benchmarks.sidebyside.peers import PEERS, Peer
from benchmarks.sidebyside.schedule import beside
from infopt.measure.statistics import Ratio

TIE = 0.98
"""From this ratio of speeds on infopt is not behind."""
EXACT = 1e-4
"""Errors up to this are those of rounding in float32, and count as equal."""
WANTED = 0.9
"""In this part of the cells infopt is to lead or tie every peer on ONNX Runtime."""

Results = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Form:
    """One peer's speed in a cell, and its error on the model."""

    peer: Peer
    speed: float
    """Beside the baseline's."""
    error: float
    width: float = 0.0
    """Half of the interval of the speed's logarithm."""
    passes: tuple[tuple[float, ...], ...] = ()
    """The speed in each pass of each round."""
    group: int = 0
    """Those of the same group were timed in the same rounds."""


@dataclasses.dataclass(frozen=True)
class Duel:
    """infopt beside one peer in a cell: its fastest form that errs no more than the peer."""

    theirs: Form
    ours: Form | None
    """``None`` where no form of infopt errs as little, or none runs."""

    @functools.cached_property
    def _of_passes(self) -> Ratio | None:
        """Where both were timed in the same passes: one beside the other in each of them."""
        if self.ours is None or self.ours.group != self.theirs.group:
            return None
        rounds = zip(self.ours.passes, self.theirs.passes, strict=False)
        common = [(own, other) for own, other in rounds if own and other]
        ours = [speed for own, _ in common for speed in own]
        theirs = [speed for _, other in common for speed in other]
        return beside(ours, theirs) if common else None

    @property
    def ratio(self) -> float:
        """How many times as fast as the peer infopt is; 0 where it has nothing to show."""
        if self.ours is None:
            return 0.0
        return self._of_passes.value if self._of_passes else self.ours.speed / self.theirs.speed

    @property
    def interval(self) -> tuple[float, float]:
        """Of the ratio; without passes in common by the intervals of both speeds."""
        if self._of_passes:
            return self._of_passes.low, self._of_passes.high
        half = math.exp(math.hypot(self.theirs.width, self.ours.width if self.ours else 0.0))
        return self.ratio / half, self.ratio * half


@dataclasses.dataclass(frozen=True)
class Row:
    """A cell: the peers that come closest to infopt, or are ahead of it the most."""

    model: str
    size: str
    batch: int
    same_runtime: Duel | None
    """Among those that ONNX Runtime runs."""
    other_kernels: Duel | None

    @property
    def worst(self) -> float:
        """The lower of both ratios."""
        return min(d.ratio for d in (self.same_runtime, self.other_kernels) if d is not None)


def forms(model: Results, cell: str, peers: Iterable[Peer] = PEERS) -> list[Form]:
    """All peers that ran in a cell."""
    found = []
    for peer in peers:
        result = model["peers"].get(peer.name, {"cells": {}})
        if cell in result["cells"]:
            timed = result["cells"][cell]
            speed, passes = timed["speed"], tuple(map(tuple, timed.get("passes", ())))
            width = math.log(speed["high"] / speed["low"]) / 2
            group = timed.get("group", 0)
            found.append(Form(peer, speed["value"], result["error"], width, passes, group))
    return found


def duel(theirs: Form, all_forms: Iterable[Form]) -> Duel:
    """Set infopt beside a peer, at equal or lower error."""
    allowed = max(theirs.error, EXACT)
    able = [form for form in all_forms if form.peer.ours and form.error <= allowed]
    return Duel(theirs, max(able, key=lambda form: form.speed, default=None))


def rows(results: Results) -> list[Row]:
    """All cells, those where infopt is behind the most in front."""
    return sorted(_rows(results), key=lambda row: row.worst)


def _rows(results: Results) -> Iterator[Row]:
    for model in results["models"]:
        for cell in model.get("cells", ()):
            everyone = forms(model, cell["name"])
            duels = [duel(form, everyone) for form in everyone if not form.peer.ours]
            same = [d for d in duels if d.theirs.peer.runtime == PEERS[0].runtime]
            other = [d for d in duels if d not in same]
            closest = (min(d, key=lambda x: x.ratio, default=None) for d in (same, other))
            if duels:
                yield Row(model["model"], cell["size"], cell["batch"], *closest)


def led(found: Iterable[Row]) -> tuple[int, int]:
    """In how many cells infopt leads or ties every peer on ONNX Runtime, of how many."""
    ratios = [row.same_runtime.ratio for row in found if row.same_runtime is not None]
    return sum(ratio >= TIE for ratio in ratios), len(ratios)


def unclear(found: Iterable[Row]) -> int:
    """In how many of the other cells the interval of the ratio reaches a tie."""
    duels = [row.same_runtime for row in found if row.same_runtime is not None]
    return sum(duel.ratio < TIE <= duel.interval[1] for duel in duels)


def losses(found: Iterable[Row]) -> dict[str, int]:
    """In how many cells which peer is the one that infopt is behind the most."""
    counts: dict[str, int] = {}
    for row in found:
        for one in (row.same_runtime, row.other_kernels):
            if one is not None and one.ratio < TIE:
                counts[one.theirs.peer.name] = counts.get(one.theirs.peer.name, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def front(points: Iterable[Form]) -> list[Form]:
    """Those that no other beats in speed and error at once, by falling error (Pareto)."""
    best: list[Form] = []
    for form in sorted(points, key=lambda form: (form.error, -form.speed)):
        if not best or form.speed > best[-1].speed:
            best.append(form)
    return best[::-1]
