"""Finds the first step that breaks something."""

from __future__ import annotations

from collections.abc import Callable


def first_bad(count: int, is_bad: Callable[[int], bool]) -> int:
    """The smallest ``k`` in 1 … ``count`` for which ``is_bad(k)``: the step that breaks it.

    Needs about log2(``count``) calls. ``is_bad(count)`` is taken for granted, as is that
    zero steps are good; if badness comes and goes, the result is one step at which it comes.
    """
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_bad(middle):
            bad = middle
        else:
            good = middle
    return bad
