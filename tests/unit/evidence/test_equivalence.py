import itertools
from collections.abc import Mapping

import numpy as np

from infopt.evidence.bisect import first_bad
from infopt.evidence.equivalence import Budget, Runner, Sample, compare

SAMPLES = [Sample({"x": np.full((2, 2), float(i + 1))}, f"sample {i}") for i in range(3)]


def _times(factor: float) -> Runner:
    return lambda inputs: {"y": inputs["x"] * factor}


def test_equal_runners_hold() -> None:
    found = compare(_times(2), _times(2), SAMPLES, budget=Budget(0), described="itself")
    assert found.holds
    assert found.worst == 0
    assert found.samples[1] == "sample 1: x=2×2"


def test_the_failing_samples_are_named() -> None:
    def broken(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        x = inputs["x"]
        return {"y": x * (2.5 if x[0, 0] == 2 else 2)}

    found = compare(broken, _times(2), SAMPLES, budget=Budget(1e-3), described="double")
    assert not found.holds
    assert found.failing == (1,)
    assert found.worst == 0.25


def test_a_missing_output_fails() -> None:
    found = compare(lambda _: {}, _times(2), SAMPLES, budget=Budget(1), described="double")
    assert found.failing == (0, 1, 2)


def test_nan_fails() -> None:
    found = compare(_times(np.nan), _times(1), SAMPLES, budget=Budget(1), described="one")
    assert not found.holds


def test_what_the_reference_itself_does_not_repeat_is_set_apart() -> None:
    counter = itertools.count()
    found = compare(
        lambda inputs: {"y": inputs["x"], "noise": inputs["x"]},
        lambda inputs: {"y": inputs["x"], "noise": inputs["x"] + next(counter)},
        SAMPLES,
        budget=Budget(0),
        described="a noisy one",
    )
    assert found.holds
    assert found.undetermined == ("noise",)
    assert set(found.outputs) == {"y"}


def test_bisection_finds_the_first_bad_step_in_few_tries() -> None:
    for count, culprit in itertools.product((1, 2, 7, 100), (1, 2, 7, 64, 100)):
        if culprit > count:
            continue
        asked: list[int] = []

        def is_bad(k: int, culprit: int = culprit, asked: list[int] = asked) -> bool:
            asked.append(k)
            return k >= culprit

        assert first_bad(count, is_bad) == culprit
        assert len(asked) <= 7
