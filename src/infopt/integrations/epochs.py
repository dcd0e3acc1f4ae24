"""At which epochs of a training engines are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from infopt.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Epochs:
    """Some of the epochs, counted from one."""

    every: int = 1
    """Every so many of them, and the last …"""
    only: Collection[int] | None = None
    """… or these."""

    def __post_init__(self) -> None:
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise UsageError(f"every must be a number of epochs, at least 1, not {self.every!r}")
        if self.only is not None and not all(
            isinstance(epoch, int) and epoch >= 1 for epoch in self.only
        ):
            raise UsageError(f"epochs are counted from one; there is none in {self.only!r}")

    def chosen(self, epoch: int, last: int | None) -> bool:
        """Whether ``epoch`` is one of them.

        Args:
            epoch: How many epochs are done.
            last: How many there will be, where that is known.
        """
        if self.only is not None:
            return epoch in self.only
        return epoch % self.every == 0 or epoch == last
