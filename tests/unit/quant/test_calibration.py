"""What was observed: asked for, added up, and never counted twice."""

from __future__ import annotations

import numpy as np
import pytest

from infopt.errors import CalibrationError
from infopt.quant.calibration import Calibration, Request

REQUESTS = (
    Request("x", "channels", 1),
    Request("x", "histogram"),
    Request("x", "moments", -1),
)


def _observed(seed: int, samples: int = 3) -> Calibration:
    rng = np.random.default_rng(seed)
    found = Calibration.empty("model", REQUESTS, synthetic=False)
    for _ in range(samples):
        found.update({"x": rng.normal(size=(2, 4, 3)).astype(np.float32)})
    found.data = f"data {seed}"
    return found


def test_shards_add_up() -> None:
    first, second = _observed(1), _observed(2)
    first.merge(second)
    assert first.samples == 6
    histogram = first.histogram("x")
    assert histogram is not None
    assert histogram.count == 6 * 2 * 4 * 3


def test_shards_of_other_models_do_not() -> None:
    other = _observed(1)
    other.model = "another"
    with pytest.raises(CalibrationError, match="different models"):
        _observed(0).merge(other)


def test_the_same_data_is_not_counted_twice() -> None:
    both = _observed(1)
    both.merge(_observed(2))
    with pytest.raises(CalibrationError, match=r"the same data \(data 2\)"):
        both.merge(_observed(2))
    with pytest.raises(CalibrationError, match="each sample counts once"):
        _observed(1).merge(both)


def test_it_covers_what_it_was_asked_and_no_more() -> None:
    found = _observed(0)
    assert found.covers("model", REQUESTS[:1])
    assert found.covers("model", REQUESTS)
    assert not found.covers("another", REQUESTS)
    assert not found.covers("model", [Request("y", "histogram")])
