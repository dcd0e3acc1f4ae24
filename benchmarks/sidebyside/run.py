"""A model through all peers: optimized one after the other, judged, and timed together."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.sidebyside import judge
from benchmarks.sidebyside.client import Client, PeerFailed
from benchmarks.sidebyside.peers import BASELINE, PYTORCH, REFERENCE, Peer
from benchmarks.sidebyside.schedule import Budget, Series, Timer, passes
from benchmarks.sidebyside.workplace import Made, Workplace
from infopt.measure.statistics import summarize

AGAIN = dataclasses.replace(BASELINE, name="ORT default, again")
AT_ONCE = 2
"""So many peers optimize at once, and load: for most of it they have one thread, or wait."""
LEAST_FREE = 0.1
"""Part of the machine's memory that stays free: no worker is started beyond, where the largest so
far is what the next may need."""

LEAST_PATIENCE = 30.0
"""Seconds that one peer may take to optimize a model, however little time is left."""
ROUNDS = 4
"""So often every worker is started, where time allows: processes of the same model differ for as
long as they live, which passes do not average."""
NO_TIME = "not taken: the time was spent"

Say = Callable[[str], None]


@dataclasses.dataclass
class Outcome:
    """What one peer made of one model."""

    made: Made
    error: float | None = None
    metric: float | None = None
    peak_rss: int = 0
    """While running, over all cells."""
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    """What it said, by the name of the cell; ``""`` for all of them."""

    def as_dict(self, cells: dict[str, Any]) -> dict[str, Any]:
        """Ready for JSON, with the figures of its cells."""
        return {
            "optimize_seconds": self.made.seconds,
            "optimize_peak_rss": self.made.peak_rss,
            "bytes": self.made.size,
            "error": self.error,
            "metric": self.metric,
            "run_peak_rss": self.peak_rss,
            # Files are named as seen from the repository, wherever that lies.
            "failed": {
                name: why.replace(f"{Path.cwd()}/", "") for name, why in self.failed.items()
            },
            "cells": cells,
        }


class Race:
    """All peers on one model."""

    def __init__(
        self, place: Workplace, peers: Sequence[Peer], *, patience: float, say: Say
    ) -> None:
        self.place, self.patience, self.say = place, patience, say
        # infopt is first at everything: what time and memory leave out is not infopt.
        self.peers = sorted(peers, key=lambda peer: not peer.ours)
        self.outcomes: dict[str, Outcome] = {}
        self.series = {cell: Series(BASELINE.name, AGAIN.name) for cell in place.cells}
        self.reference: list[list[Any]] = []
        self.largest = 0
        """Bytes that a worker has held at most, once it has run every cell."""

    def optimize(self, budget: Budget) -> None:
        """Let every peer optimize the model, each in a process of its own, while there is time.

        Raises:
            PeerFailed: The model does not run as it is.
        """
        for peer in (REFERENCE, BASELINE):
            self._optimize(peer, self.patience)
        if self.outcomes[REFERENCE.name].made.error:
            raise PeerFailed(f"no reference: {self.outcomes[REFERENCE.name].made.error}")

        def one(peer: Peer) -> None:
            if budget.left > self._needs(peer):
                self._optimize(peer, min(self.patience, max(budget.left, LEAST_PATIENCE)))
            else:
                self._made(peer, Made(error=NO_TIME))

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, [peer for peer in self._in_turn() if peer != BASELINE]))

    def _in_turn(self) -> list[Peer]:
        """Those that take long at last, so that time leaves out as few as possible."""
        return sorted(self.peers, key=self._needs)

    def _needs(self, peer: Peer) -> float:
        """Seconds that it takes; who takes nothing but modules refuses a file at once."""
        refused = self.place.subject.module is None and peer.runtime == PYTORCH
        return 0.0 if refused else peer.needs

    def _optimize(self, peer: Peer, patience: float) -> None:
        self._made(peer, self.place.optimize(peer, patience))

    def _made(self, peer: Peer, made: Made) -> None:
        self.outcomes[peer.name] = Outcome(made, failed={"": made.error} if made.error else {})
        self.say(f"  {peer.name}: {made.error or f'{made.seconds:.1f} s'}")

    def run(self, budget: Budget, seconds: float) -> None:
        """Judge and time, in groups of workers that fit into memory together.

        Args:
            budget: Time that is left for this model; no cell but the first is begun after it.
            seconds: For the passes over one cell; the least number of passes is made in any case.
        """
        with self.place.start(REFERENCE) as client:
            client.ask("load", timeout=self.patience)
            self._shapes(client, REFERENCE)
            self._unseen(client, REFERENCE)
        self.reference = judge.outputs(self._folder(REFERENCE, "unseen"))
        able = [peer for peer in self._in_turn() if not self.outcomes[peer.name].failed]
        waiting = [peer for peer in able if peer != BASELINE]
        groups: list[list[Peer]] = []
        before = budget.left
        while not groups or (waiting and budget.left):
            groups.append(self._round(waiting, len(groups), budget, seconds / ROUNDS))
            waiting = [peer for peer in waiting if peer not in groups[-1] and self._alive(peer)]
        for peer in waiting:
            self.outcomes[peer.name].failed[""] = NO_TIME
        took = before - budget.left
        for _ in range(1, ROUNDS):
            if budget.left <= took:
                break
            for number, peers in enumerate(groups):
                self._round(peers, number, budget, seconds / ROUNDS)

    def _round(
        self, peers: Sequence[Peer], number: int, budget: Budget, seconds: float
    ) -> list[Peer]:
        """Time as many of the peers as there is memory for, each in a new process, in all cells.

        Returns:
            Which they are: a group, of this number.
        """
        before = budget.left
        with contextlib.ExitStack() as stack:
            clients = self._start([BASELINE, AGAIN], stack, all_of_them=True)
            clients |= self._start(peers, stack)
            self._time(clients, number, budget, seconds)
            waiting = any(peer not in clients and self._alive(peer) for peer in peers)
            another = budget.left > before - budget.left
            if number == 0 and not waiting and not another:
                # What is left is too short for new processes: these go on.
                self._time(clients, number, budget, (ROUNDS - 1) * seconds)
        return [peer for peer in peers if peer in clients]

    def _alive(self, peer: Peer) -> bool:
        return "" not in self.outcomes[peer.name].failed

    def _start(
        self, peers: Sequence[Peer], stack: contextlib.ExitStack, *, all_of_them: bool = False
    ) -> dict[Peer, Client]:
        """Workers of the first peers for which there is memory; each has run every cell once."""
        group: dict[Peer, Client] = {}
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            for at in range(0, len(peers), AT_ONCE):
                if group and not all_of_them and self._full():
                    break
                some = peers[at : at + AT_ONCE]
                clients = [stack.enter_context(self.place.start(peer)) for peer in some]
                errors = pool.map(self._ready, some, clients)
                for peer, client, error in zip(some, clients, errors, strict=True):
                    if not error:
                        group[peer] = client
                    elif peer in (BASELINE, AGAIN):
                        raise PeerFailed(f"no baseline: {error}")
                    else:
                        self._fail([peer], "", error)
                        self.say(f"  {peer.name}: {error}")
        return group

    def _full(self) -> bool:
        """Whether there is no room for as many workers as load at once, and for one to grow."""
        memory = psutil.virtual_memory()
        return bool(memory.available - (AT_ONCE + 1) * self.largest < LEAST_FREE * memory.total)

    def _ready(self, peer: Peer, client: Client) -> str:
        """Load the model and judge it, if it has not been; what went wrong, if something did."""
        try:
            client.ask("load", timeout=self.patience)
            self._shapes(client, peer)
            if peer != AGAIN and self.outcomes[peer.name].error is None:
                self._judge(client, peer)
        except (PeerFailed, judge.WrongOutputs) as error:
            client.close()
            return str(error)
        return ""

    def _folder(self, peer: Peer, name: str) -> Path:
        return self.place.of(peer) / name

    def _shapes(self, client: Client, peer: Peer) -> None:
        """Run every cell once: what is compiled for a shape is compiled now."""
        folder = self._folder(peer, "again" if peer == AGAIN else "cells")
        for cell in self.place.cells:
            into = folder / f"{cell.name}.npz"
            feeds = self.place.feeds(cell)
            answer = client.ask("outputs", timeout=self.patience, feeds=feeds, into=into)
            self.largest = max(self.largest, answer["peak_rss"])

    def _unseen(self, client: Client, peer: Peer) -> None:
        for feeds in self.place.unseen():
            into = self._folder(peer, "unseen") / feeds.name
            client.ask("outputs", timeout=self.patience, feeds=feeds, into=into)

    def _judge(self, client: Client, peer: Peer) -> None:
        """Compare with the reference: each cell for its shapes, unseen inputs for the error."""
        pairs = (judge.outputs(self._folder(p, "cells")) for p in (peer, REFERENCE))
        for found, expected in zip(*pairs, strict=True):
            judge.check(found, expected)
        self._unseen(client, peer)
        found = judge.outputs(self._folder(peer, "unseen"))
        outcome = self.outcomes[peer.name]
        outcome.error = judge.error(found, self.reference)
        if self.place.subject.metric:
            outcome.metric = judge.METRICS[self.place.subject.metric](found, self.reference)

    def _time(self, group: dict[Peer, Client], number: int, budget: Budget, seconds: float) -> None:
        for done, cell in enumerate(self.place.cells):
            again = number in (earlier for earlier, _ in self.series[cell].rounds)
            if (done or again) and not budget.left:
                self._fail(group, cell.name, NO_TIME)
                continue
            timers: dict[str, Timer] = {}
            for peer, client in group.items():
                with contextlib.suppress(PeerFailed):  # it will say so again when it is timed
                    client.ask("bind", timeout=self.patience, feeds=self.place.feeds(cell))
                timers[peer.name] = functools.partial(self._call, client, peer)
            share = budget.share(len(self.place.cells) - done)
            samples, raised = passes(timers, min(seconds, share))
            for peer in group:
                if peer.name in raised:
                    self._fail([peer], cell.name, str(raised[peer.name]))
            if BASELINE.name in raised:  # nothing is a multiple of it then
                self._fail(group, cell.name, f"no baseline: {raised[BASELINE.name]}")
                continue
            self.series[cell].add(samples, number)
            count = len(samples[BASELINE.name])
            self.say(f"  {cell.name}: {len(samples)} workers, {count} passes")

    def _fail(self, peers: Iterable[Peer], cell: str, reason: str) -> None:
        """Keep why there are no figures; of those that have some from another round, nothing."""
        for peer in peers:
            timed = {c.name for c, series in self.series.items() if series.has(peer.name)}
            if peer != AGAIN and (cell not in timed if cell else not timed):
                self.outcomes[peer.name].failed.setdefault(cell, reason)

    def _call(self, client: Client, peer: Peer, lead: int, count: int) -> float:
        answer = client.ask("time", timeout=self.patience, lead=lead, count=count)
        outcome = self.outcomes.get(peer.name)
        if outcome is not None:
            outcome.peak_rss = max(outcome.peak_rss, answer["peak_rss"])
        return float(answer["seconds"])

    def as_dict(self) -> dict[str, Any]:
        """Everything that was found, ready for JSON."""
        subject = self.place.subject
        return {
            "model": subject.name,
            "metric": subject.metric,
            "bytes": self.place.model.stat().st_size,
            "cells": [
                {
                    "name": cell.name,
                    "batch": cell.batch,
                    "size": subject.size(cell.size),
                    "noise": self.series[cell].noise,
                }
                for cell in self.place.cells
            ],
            "peers": {peer.name: self._peer(peer) for peer in self.peers},
        }

    def _peer(self, peer: Peer) -> dict[str, Any]:
        cells = {
            cell.name: {
                **summarize(series.seconds(peer.name)).as_dict(),
                "speed": series.speed(peer.name).as_dict(),
                **series.passes(peer.name),
            }
            for cell, series in self.series.items()
            if series.has(peer.name)
        }
        return self.outcomes[peer.name].as_dict(cells)
