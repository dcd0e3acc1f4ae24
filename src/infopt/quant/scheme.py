"""QuantScheme: what of a model is quantized, and how its activations are observed."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from infopt.errors import QuantizationError, nearest
from infopt.quant.granularity import PerTensor
from infopt.quant.spec import QuantSpec

RangeMethod = Literal["min-max", "percentile", "entropy", "mse"]
"""How the range of an activation follows from what was observed of it (``ranges``)."""


@dataclasses.dataclass(frozen=True)
class QuantScheme:
    """Which tensors are quantized, and how.

    >>> from onnx_ir import DataType
    >>> from infopt.quant.granularity import PerAxis, PerBlock
    >>> int8 = QuantScheme(QuantSpec(DataType.INT8, PerAxis(0)), QuantSpec(DataType.INT8))
    >>> four_bit_weights = QuantScheme(QuantSpec(DataType.INT4, PerBlock(1, 32)))

    Raises:
        QuantizationError: Nothing is quantized, activations have several scales, or there is no
            such method.
    """

    weights: QuantSpec | None = None
    activations: QuantSpec | None = None
    """``None`` leaves them in floating point: weight-only quantization."""
    method: RangeMethod = "min-max"

    def __post_init__(self) -> None:
        if self.weights is None and self.activations is None:
            raise QuantizationError("the scheme quantizes nothing; give weights or activations")
        if self.activations is not None and self.activations.granularity != PerTensor():
            raise QuantizationError(
                "activations have one range for each tensor; give them PerTensor()"
            )
        known = get_args(RangeMethod)
        if self.method not in known:
            raise QuantizationError(
                f"there is no range method {self.method!r}{nearest(self.method, known)}; "
                f"known: {', '.join(known)}"
            )
