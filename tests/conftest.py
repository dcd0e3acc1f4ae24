"""What all tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infopt.measure import timing

pytest_plugins = ["pytester"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the expected parts of tests/golden with what the passes do now",
    )


@pytest.fixture(autouse=True, scope="session")
def no_rests() -> Iterator[None]:
    """What tests time is not looked at, so that nothing need come to rest before it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "REST", 0.0)
        patch.setattr(timing, "MIN_SAMPLE", 1e-3)
        yield
