"""Findings: what a comparison with a baseline comes to, one verdict and one sentence each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from infopt.measure.statistics import Verdict


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was compared."""

    name: str
    """One of :data:`infopt.gates.limits.FINDINGS`."""
    verdict: Verdict
    sentence: str
    """What was found, in words, with the figures."""
    was: str = ""
    now: str = ""
    limit: str = ""
    allowed: bool = False
    """Whether the user said beforehand that it does not count."""

    @property
    def counts(self) -> bool:
        """Whether it turns a gate red, or could."""
        return not self.allowed and self.verdict in ("worse", "inconclusive")

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Check:
    """All findings of one check, and what they come to."""

    subject: str
    """What was checked."""
    baseline: str
    """The file that it was held against."""
    findings: tuple[Finding, ...]
    seconds: float
    """How long it took."""
    notes: tuple[str, ...] = ()
    """What is to be known beside."""
    lenient: bool = False
    """Whether what is inconclusive passes."""

    def of(self, verdict: Verdict) -> tuple[Finding, ...]:
        """The findings with this verdict that count."""
        return tuple(it for it in self.findings if it.verdict == verdict and not it.allowed)

    @property
    def verdict(self) -> Verdict:
        """The worst of all findings; ``better`` where nothing is worse and something is better."""
        if self.of("worse"):
            return "worse"
        if self.of("inconclusive"):
            return "inconclusive"
        return "better" if self.of("better") else "same"

    @property
    def holds(self) -> bool:
        """Whether the gate is green."""
        return not self.of("worse") and (self.lenient or not self.of("inconclusive"))

    @property
    def sentence(self) -> str:
        """What it comes to, in one sentence."""
        worse, open_ = self.of("worse"), self.of("inconclusive")
        parts = [f"worse: {_names(worse)}"] if worse else []
        parts += [f"inconclusive: {_names(open_)}"] if open_ else []
        return "; ".join(parts) or "nothing is worse than the baseline"

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "subject": self.subject,
            "baseline": self.baseline,
            "holds": self.holds,
            "verdict": self.verdict,
            "findings": [finding.as_dict() for finding in self.findings],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def _names(findings: Iterable[Finding]) -> str:
    return ", ".join(finding.name for finding in findings)
