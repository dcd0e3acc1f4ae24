"""The raising passes: scattered patterns become standard operators."""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import onnx.defs

from infopt.passes.rewriting import Rewrite


@dataclasses.dataclass(frozen=True)
class Fusion(Rewrite):
    """Base of the raising passes: ``fuse-`` and the operator that they make."""

    raises: ClassVar[bool] = True
    """Whether the pass makes the operator that it is named after."""

    @classmethod
    def operator(cls) -> str:
        """The standard operator that the pass makes of its patterns; empty if it makes none."""
        word = cls.name.removeprefix("fuse-").replace("-", "")
        return _standard_operators()[word] if cls.raises else ""


@functools.cache
def _standard_operators() -> dict[str, str]:
    """The operators of the standard domain, by their names in lower case."""
    schemas = onnx.defs.get_all_schemas()
    return {schema.name.lower(): schema.name for schema in schemas if schema.domain == ""}
