"""A few things that many threads use, one thread at a time each."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Lends what it has, makes more up to a limit, and lets those wait who come later.

    Who comes with a key gets what was last lent under that key, if it is there: work that was
    given to one stream stays in its order, and other streams go on beside it.
    """

    def __init__(self, make: Callable[[], T], limit: int) -> None:
        self._make = make
        self._limit = limit
        self._made = 0
        self._free: list[tuple[Hashable, T]] = []
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def lend(self, key: Hashable = None) -> Iterator[T]:
        """One of the things, for as long as the context lasts."""
        item = self._take(key)
        try:
            yield item
        finally:
            with self._changed:
                self._free.append((key, item))
                self._changed.notify()

    def _take(self, key: Hashable) -> T:
        with self._changed:
            while True:
                keys = [old for old, _ in self._free]
                for wanted in (key, None):
                    if wanted in keys:
                        return self._free.pop(keys.index(wanted))[1]
                if self._made < self._limit:
                    self._made += 1
                    break
                if self._free:
                    return self._free.pop(0)[1]
                self._changed.wait()
        try:
            return self._make()
        except BaseException:
            with self._changed:
                self._made -= 1
                self._changed.notify()
            raise
