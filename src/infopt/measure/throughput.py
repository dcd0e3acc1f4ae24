"""Throughput: how many requests a second are answered, so many at a time; and what they cost."""

from __future__ import annotations

import dataclasses
import threading
import time

from infopt.measure.timing import Clock, Subject

_HOUR = 3600.0


@dataclasses.dataclass(frozen=True)
class Throughput:
    """What so many callers at once got answered."""

    concurrency: int
    requests: int
    seconds: float

    @property
    def per_second(self) -> float:
        """Requests a second, of all callers together."""
        return self.requests / self.seconds

    def cost_per_million(self, price_per_hour: float) -> float:
        """What a million requests cost on a machine at this price, if it does nothing else."""
        return price_per_hour * 1e6 / (self.per_second * _HOUR)


def throughput(
    call: Subject, concurrency: int, *, seconds: float, clock: Clock = time.perf_counter
) -> Throughput:
    """Have ``concurrency`` threads make the same call again and again.

    Args:
        call: One request; it has to be safe to make from several threads at once, and does its
            work without holding Python's lock, as runtimes do.
        concurrency: How many requests are under way at any time.
        seconds: How long; every thread makes one request in any case, and ends the one that it is
            at, which counts with its time.
        clock: Returns seconds; a test passes its own.

    Raises:
        Exception: Whatever the call raises, once all threads have ended.
    """
    call()
    counts, failures = [0] * concurrency, list[BaseException]()
    start = clock()

    def work(caller: int) -> None:
        try:
            while not failures:
                call()
                counts[caller] += 1
                if clock() - start >= seconds:
                    return
        except BaseException as error:  # told by whoever waits
            failures.append(error)

    threads = [threading.Thread(target=work, args=(caller,)) for caller in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return Throughput(concurrency, sum(counts), max(clock() - start, 1e-9))
