"""Reading the saved state of a stream, which comes from a file and may be anything."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from infopt.errors import QuantizationError


def read(
    state: Mapping[str, np.ndarray], name: str, dtype: type, shape: tuple[int | None, ...]
) -> np.ndarray:
    """A copy of ``state[name]``, which must have ``dtype`` and ``shape`` (``None``: any size).

    Raises:
        QuantizationError: There is no such array, or it is another.
    """
    array = state.get(name)
    if array is None:
        raise QuantizationError(f"the saved statistics lack {name!r}; observe the data again")
    fits = len(array.shape) == len(shape) and all(
        wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        raise QuantizationError(
            f"{name!r} of the saved statistics is {array.dtype}{list(array.shape)}, expected "
            f"{np.dtype(dtype)}{[size if size is not None else 'any' for size in shape]}"
        )
    return np.array(array)


def require(condition: bool | np.bool, what: str) -> None:
    """Refuse saved statistics that contradict themselves.

    Raises:
        QuantizationError: ``condition`` does not hold.
    """
    if not condition:
        raise QuantizationError(f"the saved statistics are damaged: {what}; observe the data again")
