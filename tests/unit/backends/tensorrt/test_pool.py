"""A pool, as threads see it."""

import itertools
import threading
import time

import pytest

from infopt.backends.tensorrt.pool import Pool


def _pool(limit: int) -> Pool[int]:
    numbers = itertools.count()
    return Pool(lambda: next(numbers), limit)


def test_what_is_free_is_lent_again() -> None:
    pool = _pool(2)
    with pool.lend() as first:
        assert first == 0
    with pool.lend() as again, pool.lend() as other:
        assert (again, other) == (0, 1)


def test_who_comes_with_a_key_gets_what_he_had() -> None:
    pool = _pool(2)
    for key, expected in (("a", 0), ("b", 1), ("a", 0), ("b", 1), ("b", 1), ("c", 0), ("a", 1)):
        with pool.lend(key) as found:
            assert found == expected, key


def test_who_comes_late_waits() -> None:
    pool = _pool(1)
    order = []

    def late() -> None:
        with pool.lend():
            order.append("late")

    with pool.lend():
        thread = threading.Thread(target=late)
        thread.start()
        time.sleep(0.05)
        order.append("early")
    thread.join()
    assert order == ["early", "late"]


def test_what_could_not_be_made_is_tried_again() -> None:
    tries = iter([False, True])

    def make() -> str:
        if not next(tries):
            raise MemoryError
        return "made"

    pool = Pool(make, 1)
    with pytest.raises(MemoryError), pool.lend():
        pass
    with pool.lend() as found:
        assert found == "made"
