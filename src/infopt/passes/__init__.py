"""The table of all passes: the word in a pipeline → the class."""

from __future__ import annotations

from infopt.passes.base import Pass

PASSES: dict[str, type[Pass]] = {a_pass.name: a_pass for a_pass in ()}
