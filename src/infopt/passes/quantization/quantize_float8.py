"""quantize-float8: activations and weights as floating-point numbers of 8 bits."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from infopt.passes.quantization.quantize_static import QuantizeStatic


@dataclasses.dataclass(frozen=True)
class QuantizeFloat8(QuantizeStatic):
    """``quantize-static`` in E4M3: 3 bits of fraction, numbers up to 448, no infinities.

    Activations have one scale, weights one for each output channel; zero is zero, and biases stay
    what they are. The steps of such numbers grow with them (Micikevicius et al., arXiv:2209.05433),
    so the largest value may be covered without taking steps from the small ones: ranges are those
    that were seen.
    """

    name: ClassVar[str] = "quantize-float8"
    rounding: ClassVar[float] = 2**-4

    activations: str = "float8e4m3fn"
    weights: str = "float8e4m3fn"
    symmetric: bool = True
    method: str = "min-max"
    biases: bool = False
