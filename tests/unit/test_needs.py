"""What subjects need, of sessions that are no runtime's."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infopt import needs
from infopt.backends.base import RunOptions, Session
from infopt.errors import UsageError
from infopt.evidence.equivalence import Sample
from infopt.needs import Needing

SAMPLE = Sample({"x": np.zeros((1, 2), np.float32)}, "zeros")


class Serial(Session):
    """One call at a time, and it says so where two are under way."""

    inputs = ()
    outputs = ()
    parallel = False

    def __init__(self) -> None:
        self._busy = threading.Lock()

    def __call__(self, inputs: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, Any]:
        assert self._busy.acquire(blocking=False), "two calls at once"
        time.sleep(1e-3)
        self._busy.release()
        return {}


def needing(room: Path, **changed: Any) -> Needing:
    asked: dict[str, Any] = {"concurrency": None, "price_per_hour": None, "cold_starts": False}
    return Needing(SAMPLE, RunOptions(), room, **(asked | changed))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "THROUGHPUT_SECONDS", 0.05)


def test_a_session_of_one_call_at_a_time_has_callers_wait(tmp_path: Path) -> None:
    (found,) = needing(tmp_path, concurrency=4).of([object()], {"a": Serial()})
    assert found.throughput is not None
    assert found.throughput.concurrency == 4
    assert found.throughput.per_second <= 1000


def test_a_price_alone_asks_for_as_many_requests_as_there_are_cores(tmp_path: Path) -> None:
    (found,) = needing(tmp_path, price_per_hour=2.0).of([object()], {"a": Serial()})
    assert found.throughput is not None
    assert found.cost == found.throughput.cost_per_million(2.0)


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf")])
def test_a_price_that_is_none(tmp_path: Path, price: float) -> None:
    with pytest.raises(UsageError, match="is no price of an hour"):
        needing(tmp_path, price_per_hour=price).of([object()], {"a": Serial()})


def test_what_is_in_no_file_cannot_be_started(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="engines and models in files"):
        needing(tmp_path, cold_starts=True).of([object()], {"a": Serial()})


def test_inputs_that_are_strings_cannot_be_kept(tmp_path: Path) -> None:
    strings = Sample({"x": np.array(["a"], object)}, "strings")
    wanted = Needing(strings, RunOptions(), tmp_path, None, None, cold_starts=True)
    with pytest.raises(UsageError, match="inputs that are no strings"):
        wanted.of(["model.onnx"], {"a": Serial()})
