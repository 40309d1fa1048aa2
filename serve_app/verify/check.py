"""Results of checks, for people and for programs."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

FILES, PARITY, SERVED, SAMPLE, WORDS, ENDS, SPEED = "files", "parity", "served", "sample", "words", "ends", "speed"
SKIPPABLE = (PARITY, SERVED, SAMPLE, WORDS, ENDS, SPEED)
"""In the order of the report. Without the files there is nothing to check."""


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    MEASURED = "measured"
    """Figures only, nothing to pass."""
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Check:
    """A check's result. `rows` is for people, `values` for programs, in JSON's types only."""

    name: str
    status: Status
    rows: tuple[tuple[str, str], ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    """One line: why it failed or did not run."""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "status": self.status.value, "reason": self.reason, **self.values}


@dataclass(frozen=True, slots=True)
class Report:
    """All results. `about` names the model and the machine."""

    about: dict[str, Any]
    checks: tuple[Check, ...]

    @property
    def failure(self) -> str | None:
        """The first failed check and its reason, in one line. None if all passed."""
        failed = [check for check in self.checks if check.status is Status.FAILED]
        return f"{failed[0].name}: {failed[0].reason}" if failed else None

    def as_json(self) -> dict[str, Any]:
        return {
            "passed": self.failure is None,
            "failure": self.failure,
            **self.about,
            "checks": [check.as_json() for check in self.checks],
        }


def finite(number: float) -> float | None:
    """The number, or None for infinity and NaN, which JSON lacks."""
    return number if math.isfinite(number) else None


def judged(name: str, reasons: Iterable[str], rows: Iterable[tuple[str, str]], values: dict[str, Any]) -> Check:
    """A check that fails for the first of `reasons`, and passes without any."""
    reason = next(iter(reasons), None)
    return Check(name, Status.FAILED if reason else Status.PASSED, tuple(rows), values, reason)


def not_run(name: str, reason: str) -> Check:
    return Check(name, Status.NOT_RUN, reason=reason)


def failed(name: str, reason: str) -> Check:
    return Check(name, Status.FAILED, reason=reason)
