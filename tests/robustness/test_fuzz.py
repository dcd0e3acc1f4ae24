"""Mutated ONNX files become engines or errors that a person can act on, and nothing else."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.robustness.mutations import case
from tests.robustness.pool import examine_all
from tests.robustness.seeds import LARGE_SEEDS, SEEDS


def fuzz(first: int, end: int) -> Counter[str]:
    kinds: Counter[str] = Counter()
    defects = []
    for outcome in examine_all(range(first, end), workers=os.cpu_count() or 1):
        kinds[outcome.kind] += 1
        if outcome.is_defect:
            _, story = case(outcome.number)
            defects.append(
                f"case {outcome.number} ({story}): {outcome.kind}\n{outcome.detail}\n"
                f"python -m tests.robustness.fuzz {outcome.number} reproduces it"
            )
    assert not defects, "\n\n".join(defects)
    return kinds


def test_a_few_mutated_files() -> None:
    kinds = fuzz(0, 150)
    # Both ends are reached: the mutants are neither all harmless nor all hopeless.
    assert kinds["engine"] >= 15
    assert kinds["refused"] >= 75


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_thousand_mutated_files() -> None:
    kinds = fuzz(150, 2000)
    assert kinds["engine"] >= 185
    assert kinds["refused"] >= 925


def test_cases_are_functions_of_their_number() -> None:
    for number in range(0, 300, 7):
        assert case(number) == case(number)


def test_untouched_seeds_are_sound() -> None:
    import onnx

    for seed in (*SEEDS, *LARGE_SEEDS):
        model = onnx.ModelProto.FromString(seed().model)
        assert model.graph.node, seed.__name__
        if not seed().beside:
            onnx.checker.check_model(model, full_check=True)
