"""What builds engines for real, where it is installed."""

from __future__ import annotations

import pytest

from infopt.backends import backend_for
from infopt.target import parse_target


@pytest.fixture(scope="session")
def rtx() -> str:
    """A target of TensorRT for RTX; skips where no engine for it can be built."""
    target = parse_target("tensorrt-rtx:sm89")
    reason = backend_for(target).unbuildable()
    if reason is not None:
        pytest.skip(reason)
    return target.name
