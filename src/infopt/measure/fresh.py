"""Cold start and peak memory: fresh processes, side by side, each of which answers once."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Mapping, Sequence

from infopt.errors import CompileError
from infopt.measure.memory import ChildRun, run_child
from infopt.measure.timing import Clock, Enough

MOST_ROUNDS = 50
TIMEOUT = 600.0

Run = Callable[[Sequence[str]], ChildRun]


def _run(command: Sequence[str]) -> ChildRun:
    return run_child(command, timeout=TIMEOUT)


@dataclasses.dataclass(frozen=True)
class FirstAnswers:
    """What processes took that end right after their first answer."""

    seconds: Mapping[str, tuple[float, ...]]
    """From the start of a process to its answer, by subject: one figure for each round."""
    peak_rss: Mapping[str, int]
    """The most memory that one held, in bytes: the least of all rounds, since what a process
    shares with others (pages of files that are in memory already) only adds to it."""


def first_answers(
    commands: Mapping[str, Sequence[str]],
    *,
    seconds: float,
    enough: Enough,
    rounds: int = 3,
    seed: int = 0,
    clock: Clock = time.perf_counter,
    run: Run = _run,
) -> FirstAnswers:
    """Start each command in a process of its own, in rounds of shuffled order.

    Its files are in memory when it starts, if the caller has read them before.

    Args:
        commands: By subject; each loads something, has it answer once, and ends.
        seconds: Time budget.
        enough: Stop once this says so.
        rounds: How many are made in any case.
        seed: Of the order.
        clock: Returns seconds; a test passes its own.
        run: Runs a command; likewise.

    Raises:
        CompileError: A process failed; the message has the last of what it said.
    """
    order = random.Random(seed)
    taken: dict[str, list[float]] = {name: [] for name in commands}
    peaks: dict[str, list[int]] = {name: [] for name in commands}
    start = clock()
    for count in range(1, MOST_ROUNDS + 1):
        for name in order.sample(list(commands), len(commands)):
            child = run(commands[name])
            if child.returncode:
                said = child.stderr.strip().splitlines()[-1:] or [f"exit code {child.returncode}"]
                raise CompileError(f"{name} does not answer in a process of its own: {said[0]}")
            peaks[name].append(child.peak_rss)
            taken[name].append(child.seconds)
        if enough(taken) or (count >= rounds and clock() - start >= seconds):
            break
    return FirstAnswers(
        {name: tuple(series) for name, series in taken.items()},
        {name: min(series) for name, series in peaks.items()},
    )
