"""convert-bfloat16: compute in bfloat16, which has the range of float32."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from infopt.passes.precision._convert import Convert
from infopt.passes.precision._half import BFLOAT16, Half


@dataclasses.dataclass(frozen=True)
class ConvertBfloat16(Convert):
    """Nodes compute in bfloat16 (8 significant bits, up to 3.4e38), weights are stored in it.

    What ``convert-float16`` says holds here, too. Next to nothing is out of range; it is the digits
    that are few: sums of more than 32 numbers stay float32 where the operator does not add them up
    in float32 inside, and a constant that is the lowest number of float32 does unless it masks.
    """

    name: ClassVar[str] = "convert-bfloat16"
    rounding: ClassVar[float] = 2**-8
    half: ClassVar[Half] = BFLOAT16
