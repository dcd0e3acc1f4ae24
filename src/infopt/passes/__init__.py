"""The table of all passes: the word in a pipeline → the class."""

from __future__ import annotations

from infopt.passes.base import Pass
from infopt.passes.cleanup.eliminate_dead_code import EliminateDeadCode
from infopt.passes.cleanup.eliminate_noops import EliminateNoops
from infopt.passes.cleanup.fold_constants import FoldConstants
from infopt.passes.cleanup.simplify_shapes import SimplifyShapes

_ALL: tuple[type[Pass], ...] = (
    FoldConstants,
    SimplifyShapes,
    EliminateNoops,
    EliminateDeadCode,
)

PASSES: dict[str, type[Pass]] = {a_pass.name: a_pass for a_pass in _ALL}
