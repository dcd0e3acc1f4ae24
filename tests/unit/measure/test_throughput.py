from __future__ import annotations

import threading

import pytest

from infopt.measure.throughput import Throughput, throughput


def test_so_many_requests_are_under_way_at_once() -> None:
    # A call ends only once three are under way: with fewer callers none would ever end.
    together = threading.Barrier(3)
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls > 1:  # the first one is to warm up, alone
            together.wait(timeout=10)

    found = throughput(call, 3, seconds=0.0)
    assert (found.concurrency, found.requests) == (3, 3)


def test_requests_a_second_and_what_they_cost() -> None:
    now = iter([0.0, *(0.5 * n for n in range(1, 9)), 4.0])
    found = throughput(lambda: None, 1, seconds=4.0, clock=lambda: next(now))
    assert found == Throughput(1, 8, 4.0)
    assert found.per_second == 2.0
    assert found.cost_per_million(3.6) == pytest.approx(500.0)


def test_a_call_that_fails_ends_them_all() -> None:
    def call() -> None:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        throughput(call, 4, seconds=60.0)
