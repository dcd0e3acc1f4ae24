"""Golden cases: a pass, a model, and what becomes of it, in one readable file.

    Why this case exists.

    === pass
    fold-constants{limit=64}
    === model
    g (float[2] x) => (float[2] y) { … }
    === becomes
    …
    === changes
    fold: Add → k
    === refusals
    fold: Mul → z: …

A pass that needs to know the model on data has ``calibrate,`` before it, and one that needs another
pass has that one. A model that stays as it is becomes ``(unchanged)``. The first three parts are
written by hand, the others by ``pytest --update-golden``.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from infopt.pipeline import Pipeline
from tests.support.calibrating import observe
from tests.support.models import check, parse, to_text

ROOT = Path(__file__).parent.parent / "golden"
UNCHANGED = "(unchanged)"
HAND_WRITTEN = ("pass", "model")
PARTS = (*HAND_WRITTEN, "becomes", "changes", "refusals")


@dataclasses.dataclass
class Case:
    """One golden file."""

    path: Path
    why: str
    parts: dict[str, str]

    @property
    def matches(self) -> bool:
        """Whether the pass changes the model."""
        return self.parts["becomes"] != UNCHANGED

    @property
    def passes(self) -> list[str]:
        """The names of the passes that run; the last one is what the case is about."""
        return [a_pass.name for a_pass in Pipeline.parse(self.parts["pass"]).passes()]

    @staticmethod
    def read(path: Path) -> Case:
        """Read a file; parts that are missing are empty."""
        why, *rest = re.split(r"^=== (\w+)\n", path.read_text(), flags=re.MULTILINE)
        parts = dict(zip(rest[::2], (part.strip() for part in rest[1::2]), strict=True))
        return Case(path, why.strip(), {name: parts.get(name, "") for name in PARTS})

    def write(self) -> None:
        """Write the file."""
        blocks = [f"=== {name}\n{self.parts[name]}".rstrip() for name in PARTS]
        self.path.write_text("\n".join([self.why, "", *blocks]) + "\n")

    def actual(self) -> Case:
        """The case with what the pass does now."""
        model = parse(self.parts["model"])
        before = to_text(model)
        *_, run = Pipeline.parse(self.parts["pass"]).run(model, observe=observe)
        check(model)
        after = to_text(model)
        return Case(
            self.path,
            self.why,
            {name: self.parts[name] for name in HAND_WRITTEN}
            | {
                "becomes": UNCHANGED if after == before else after,
                "changes": "\n".join(f"{c.rule}: {c.node}" for c in run.changes),
                "refusals": "\n".join(f"{r.rule}: {r.node}: {r.reason}" for r in run.refusals),
            },
        )


def cases() -> list[Path]:
    """All golden files."""
    return sorted(ROOT.glob("*/*.txt"))
