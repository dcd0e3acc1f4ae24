from __future__ import annotations

from typing import Any

import pytest

from infopt.errors import UsageError
from infopt.integrations.epochs import Epochs


@pytest.mark.parametrize(
    ("epochs", "last", "expected"),
    [
        (Epochs(), 4, [1, 2, 3, 4]),
        (Epochs(3), 7, [3, 6, 7]),
        (Epochs(3), None, [3, 6]),
        (Epochs(only={2, 5}), 7, [2, 5]),
    ],
)
def test_some_of_the_epochs(epochs: Epochs, last: int | None, expected: list[int]) -> None:
    assert [epoch for epoch in range(1, (last or 7) + 1) if epochs.chosen(epoch, last)] == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"every": 0}, "every must be a number of epochs, at least 1, not 0"),
        ({"every": 1.5}, "at least 1, not 1.5"),
        ({"only": [0, 3]}, "epochs are counted from one"),
    ],
)
def test_nonsense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Epochs(**given)
