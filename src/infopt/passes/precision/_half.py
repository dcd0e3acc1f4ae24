"""Floating-point numbers of 16 bits: what they can hold, and how a tensor becomes one of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

CHUNK = 1 << 18
"""Elements that are looked at together."""
LAZY_ABOVE = 1 << 24
"""A tensor with more bytes is not converted before somebody reads it."""
WORST_LOSS = 0.125
"""How much of a constant, in the 2-norm, rounding may take away: rounding alone takes 2^-12 or
2^-9; what takes more is underflow."""


@dataclasses.dataclass(frozen=True)
class Half:
    """A type."""

    dtype: ir.DataType
    digits: int
    """The bits of its significand."""
    largest: float
    """Its largest number."""

    def __str__(self) -> str:
        """Return the name of the type."""
        return self.dtype.name.lower()

    @property
    def terms(self) -> int:
        """How many numbers may be summed in this type.

        Each step of a running sum of n equal numbers is off by up to half a unit of a total that
        is n times as large: n / 2^(digits + 1) of it in the end, here a sixteenth at most.
        """
        return 1 << (self.digits - 3)

    @property
    def ban(self) -> float:
        """What the large negative numbers of a mask become.

        Two of them and scores may be added and stay finite; and beside one, in this type, scores
        are lost that are less than 2^(1 - digits) of it, 8 in float16: as beside the number that
        was there, a row of which all is banned attends to all alike.
        """
        return -0.375 * self.largest / (1 - 2.0**-self.digits)

    def why_not(
        self, tensor: ir.TensorProtocol, *, masks: bool = False, divides: bool = False
    ) -> str | None:
        """Why this type cannot hold the numbers of a float32 tensor; ``None`` if it can.

        Args:
            tensor: The numbers; infinities and NaN stay what they are.
            masks: Whether they belong to a mask, whose negative numbers :meth:`narrowed` bounds.
            divides: Whether something is divided by them.
        """
        reached, noise, signal, vanished = 0.0, 0.0, 0.0, False
        for wide, narrow in self._chunks(tensor):
            beyond = np.isinf(narrow) & ((wide > 0) | (not masks))
            reached = max(reached, float(np.abs(wide[beyond]).max(initial=0.0)))
            fits = np.isfinite(narrow)
            noise += float(np.square(wide - narrow)[fits].sum())
            signal += float(np.square(wide[fits]).sum())
            vanished |= bool(np.any((narrow == 0) & (wide != 0)))
        if reached:
            return f"reaches {reached:g}, and {self} ends at {self.largest:g}"
        if vanished and divides:
            return f"divides, and holds numbers that {self} takes for 0"
        if noise > WORST_LOSS**2 * signal:
            lost = math.sqrt(noise / signal)
            return f"is too small for {self}, which would lose {lost:.0%} of it"
        return None

    def narrowed(self, tensor: ir.TensorProtocol, *, masks: bool = False) -> ir.TensorProtocol:
        """A float32 tensor in this type; a large one is converted anew whenever it is read."""

        def convert() -> ir.TensorProtocol:
            array = tensor.numpy()
            if masks:
                array = np.where(np.isneginf(array), array, np.maximum(array, np.float32(self.ban)))
            with np.errstate(over="ignore"):
                return ir.Tensor(array.astype(self.dtype.numpy()), dtype=self.dtype)

        if tensor.nbytes <= LAZY_ABOVE:
            return convert()
        return ir.LazyTensor(convert, self.dtype, ir.Shape(tensor.shape.numpy()))

    def _chunks(self, tensor: ir.TensorProtocol) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The finite numbers, and what becomes of them, both in float64."""
        flat = tensor.numpy().reshape(-1)
        for start in range(0, flat.size, CHUNK):
            part = flat[start : start + CHUNK]
            with np.errstate(over="ignore"):
                narrow = part.astype(self.dtype.numpy()).astype(np.float64)
            wide = part.astype(np.float64)
            finite = np.isfinite(wide)
            yield (wide, narrow) if finite.all() else (wide[finite], narrow[finite])


FLOAT16 = Half(ir.DataType.FLOAT16, 11, 65504.0)
BFLOAT16 = Half(ir.DataType.BFLOAT16, 8, float.fromhex("0x1.fep127"))
