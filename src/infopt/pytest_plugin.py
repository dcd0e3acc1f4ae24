"""The pytest plugin: a fixture that holds engines against a baseline.

``infopt_check`` is a function. Called with an engine it checks it against the file that
``--infopt-baseline`` names, or the option ``infopt_baseline`` of the configuration, and fails the
test with the sentences of what is worse::

    def test_the_engine_is_as_good_as_ever(infopt_check):
        infopt_check("model.engine", max_slowdown="5%")
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from infopt.gates.findings import Check

Checker = Callable[..., "Check"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--infopt-baseline``."""
    group = parser.getgroup("infopt", "gates on compiled models")
    text = "baseline that infopt_check holds engines against"
    group.addoption("--infopt-baseline", metavar="FILE", default=None, help=text)
    parser.addini("infopt_baseline", help=f"{text}; relative to the root directory", default="")


@pytest.fixture(scope="session")
def infopt_check(request: pytest.FixtureRequest) -> Checker:
    """Checks an engine or a model against a baseline; takes what :func:`infopt.check` takes."""
    named = request.config.getoption("--infopt-baseline")
    configured = request.config.getini("infopt_baseline")
    usual = named or (str(request.config.rootpath / configured) if configured else None)

    def check(
        subject: str | os.PathLike[str],
        baseline: str | os.PathLike[str] | None = None,
        **limits: Any,
    ) -> Check:
        from infopt import gating

        file = baseline if baseline is not None else usual
        if file is None:
            pytest.fail("no baseline: name one with --infopt-baseline FILE", pytrace=False)
        found = gating.check(subject, file, **limits)
        if not found.holds:
            told = [f"{it.name}: {it.sentence}" for it in found.findings if it.counts]
            pytest.fail("\n".join([f"{subject} against {file}", *told]), pytrace=False)
        return found

    return check
