"""What a job is, the states it goes through, and what callers and runners see of it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self

Priority = Literal["normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("normal", "low")
"""In the order in which they are served."""

LogLevel = Literal["DEBUG", "INFO", "WARN", "ERROR"]


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return not TRANSITIONS[self]


TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}),
    JobState.COMPLETED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a caller submits. `input` is JSON, and a function of the request alone: a request that is sent again must
    give the same, or it is run again."""

    endpoint: str
    key_id: str
    input: dict[str, Any]
    priority: Priority = "normal"
    start_timeout_seconds: float | None = None
    """None is `jobs.start_timeout_seconds`."""
    webhook_url: str | None = None
    idempotency_key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the request that the work wants to know."""
    max_attempts: int | None = None
    """None is `jobs.max_attempts`."""
    stores_io: bool = True
    """False: what was asked is forgotten with the job's end, and its result soon after. Files have their own time."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal requests of one caller, and for no others."""
        said = [self.key_id, self.endpoint, self.input, self.priority, self.start_timeout_seconds, self.webhook_url]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its caller sees it. Times are unix seconds."""

    id: str
    endpoint: str
    key_id: str
    state: JobState
    priority: Priority
    created_at: float
    started_at: float | None
    ended_at: float | None
    attempt: int
    """How often a runner took it."""
    reason: str | None
    """Why the last attempt ended without a result."""
    error_type: str | None
    error: str | None
    inference_seconds: float | None


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended: what its caller is answered with, over HTTP and by webhook."""

    status_code: int
    body: dict[str, Any]
    error_type: str | None = None
    error: str | None = None
    inference_seconds: float | None = None
    file_id: str | None = None
    """A file that is swept with the job; one with a lifetime of its own is not named here."""

    @property
    def is_success(self) -> bool:
        return self.error_type is None

    @classmethod
    def failure(cls, status_code: int, error_type: str, error: str, **more: Any) -> Self:
        """One that is nobody's input's fault, with fal's body for those."""
        return cls(status_code, {"detail": error, "error_type": error_type}, error_type, error, **more)


@dataclass(frozen=True, slots=True)
class LogLine:
    """What the work says while it runs; `at` is in unix seconds."""

    at: float
    level: LogLevel
    message: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """`number` grows with time, over all jobs; `at` is in unix seconds."""

    number: int
    at: float
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class JobStatus:
    """`position` counts the jobs before a queued one, from 0; None once it is not queued."""

    job: Job
    position: int | None
    logs: tuple[LogEntry, ...]


class CancelAnswer(StrEnum):
    CANCELLED = "cancelled"
    """It waited, and is over."""
    REQUESTED = "requested"
    """It runs, and will be stopped."""
    ALREADY_COMPLETED = "already_completed"


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job in a runner's hands. (`id`, `attempt`) is what everything that the runner writes is fenced by."""

    id: str
    attempt: int
    owner: str
    endpoint: str
    key_id: str
    input: dict[str, Any]
    headers: dict[str, str]
    created_at: float
    failures: int
    """Attempts that failed before this one."""
    started_before: float | None
    """When a runner first took it, if one did and it was not refused."""

    @property
    def run_id(self) -> str:
        """Of this attempt alone: what a lost one writes later is under another name."""
        return run_id(self.id, self.attempt)


def run_id(job_id: str, attempt: int) -> str:
    return f"{job_id}-{attempt}"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Jobs that are not over."""

    queued: int
    running: int
