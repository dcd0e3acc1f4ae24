"""Passes that leave named nodes in float: what decides a mixed precision, node by node."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable
from typing import Self

import onnx_ir as ir

from infopt.errors import PipelineError, nearest
from infopt.ir import queries
from infopt.passes.base import Pass

KEPT = "kept in float: keep names it"


@dataclasses.dataclass(frozen=True)
class Keeping(Pass):
    """Base of the passes that lower the precision of a model node by node."""

    keep: str = dataclasses.field(default="", kw_only=True)
    """The names of nodes to leave alone, with ``+`` between them; a ``+`` or ``\\`` that belongs
    to a name has a ``\\`` in front."""

    def kept(self, model: ir.Model) -> frozenset[str]:
        """The names of the nodes to leave alone.

        Raises:
            PipelineError: The model has no node of that name.
        """
        names = frozenset(split(self.keep))
        known = {node.name or "" for node in queries.nodes(model)} if names else set()
        for name in sorted(names - known):
            raise PipelineError(
                f"{self.name} is to keep {name!r} in float, and there is no such node"
                f"{nearest(name, known)}; `infopt sensitivity` lists those that there are"
            )
        return names

    def keeping(self, names: Iterable[str]) -> Self:
        """The pass with these nodes left alone, besides those that it leaves alone already."""
        return dataclasses.replace(self, keep=join((*split(self.keep), *names)))

    def alone(self, name: str, names: Collection[str]) -> Self:
        """The pass as it changes node ``name`` where it leaves all others of ``names`` alone."""
        return self.keeping(other for other in names if other != name)


def join(names: Iterable[str]) -> str:
    """Names as the text of ``keep``."""
    return "+".join(re.sub(r"([\\+])", r"\\\1", name) for name in dict.fromkeys(names) if name)


def split(text: str) -> tuple[str, ...]:
    """The names in the text of ``keep``; what :func:`join` wrote comes back."""
    parts = re.findall(r"(?:[^\\+]|\\.|\\$)+", text, re.DOTALL)
    return tuple(re.sub(r"\\(.)", r"\1", part, flags=re.DOTALL) for part in parts)
