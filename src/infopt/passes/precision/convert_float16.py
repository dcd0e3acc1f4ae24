"""convert-float16: compute in float16 wherever it can hold the numbers."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from infopt.passes.precision._convert import Convert
from infopt.passes.precision._half import FLOAT16, Half


@dataclasses.dataclass(frozen=True)
class ConvertFloat16(Convert):
    """Nodes compute in float16 (11 significant bits, up to 65504), weights are stored in it.

    Inputs and outputs of the graph keep their types; casts stand where both types meet, one for
    each value, and never two in a row. A node stays float32, and the journal says why, where a
    constant or a value that a ``calibrate`` before the pass has observed is out of range, where a
    constant would vanish, where the operator has no float16, where it adds up many numbers and
    does not do so in float32 inside, where it is about angles, coordinates or sizes, and inside of
    subgraphs. The large negative numbers of an additive mask become numbers that float16 has.

    Without a ``calibrate`` constants alone decide, and a refusal says so.
    """

    name: ClassVar[str] = "convert-float16"
    rounding: ClassVar[float] = 2**-11
    half: ClassVar[Half] = FLOAT16
