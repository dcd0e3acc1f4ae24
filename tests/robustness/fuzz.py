"""Fuzz by hand: ``python -m tests.robustness.fuzz 17`` takes case 17 through infopt and keeps it.

``python -m tests.robustness.fuzz 0 2000`` takes all cases from 0 to 1999, in worker processes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.robustness.mutations import case
from tests.robustness.pool import examine, examine_all


def main(first: int, end: int | None = None) -> int:
    if end is None:
        directory = Path(tempfile.mkdtemp(prefix=f"fuzz-{first}-"))
        print(f"case {first} is in {directory}", flush=True)
        print(examine(first, directory))
        return 0
    kinds: Counter[str] = Counter()
    for outcome in examine_all(range(first, end), workers=os.cpu_count() or 1):
        kinds[outcome.kind] += 1
        if outcome.is_defect:
            _, story = case(outcome.number)
            print(
                f"--- case {outcome.number}: {outcome.kind} ({story})\n{outcome.detail}", flush=True
            )
    print(dict(kinds))
    return sum(count for kind, count in kinds.items() if kind not in ("engine", "refused"))


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
