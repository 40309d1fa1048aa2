"""A job, its states, and the views of it that callers and runners get. Times are unix seconds."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Self

from serve_app.errors import CsmServeError

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
    """A job to submit. `input` is JSON and depends on the request alone, so that a repeated submit is recognised."""

    endpoint: str
    key_id: str
    input: dict[str, Any]
    priority: Priority = "normal"
    start_timeout_seconds: float | None = None
    """None takes `jobs.start_timeout_seconds`."""
    webhook_url: str | None = None
    idempotency_key: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers that the work reads, such as `traceparent`."""
    max_attempts: int | None = None
    """None takes `jobs.max_attempts`."""
    stores_io: bool = True
    """False deletes the result an hour after the job's end. Files keep their own lifetime."""
    cost_seconds: float = 1.0
    """The audio that it may make: its weight in its key's share of the runners."""
    identity: dict[str, Any] | None = None
    """What of the input tells two requests apart. None: all of it."""
    file_ids: tuple[str, ...] = ()
    """Files that were stored for the job alone. They are deleted once no job needs them."""
    application: str = ""
    """The application whose model it is for: the runners of others leave it. Empty: any runner takes it."""

    @property
    def fingerprint(self) -> str:
        """Hash that is equal only for equal requests of one caller."""
        same = self.input if self.identity is None else self.identity
        said = [self.key_id, self.endpoint, same, self.priority, self.start_timeout_seconds, self.webhook_url]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed: the `kind` and the constructor arguments of an error in `serve_app.errors`."""

    kind: str
    args: tuple[Any, ...]
    is_rendered: bool = False
    """An older release stored this error: `kind` is a word of its API and `args` holds its text."""

    @classmethod
    def of(cls, error: CsmServeError) -> Self:
        return cls(error.kind, error.args)

    def __str__(self) -> str:
        return str(self.exception() or self.args[0])

    def exception(self) -> CsmServeError | None:
        """The error itself. None if it is rendered already, or if this release does not know its kind."""
        if self.is_rendered:
            return None
        return next((kind(*self.args) for kind in _tree(CsmServeError) if kind.kind == self.kind), None)


def _tree(root: type[CsmServeError]) -> Iterator[type[CsmServeError]]:
    """Subclasses first: the base shares its kind with InternalError."""
    for child in root.__subclasses__():
        yield from _tree(child)
    yield root


@dataclass(frozen=True, slots=True)
class Job:
    """A job as its caller sees it."""

    id: str
    endpoint: str
    key_id: str
    state: JobState
    priority: Priority
    created_at: float
    started_at: float | None
    ended_at: float | None
    attempt: int
    """Number of leases so far."""
    reason: str | None
    """Why the last attempt ended without a result."""
    error: JobError | None
    inference_seconds: float | None
    application: str = ""
    """Whose model it is for."""


@dataclass(frozen=True, slots=True)
class JobResult:
    """How a job ended: with the work's output, which is JSON, or with an error."""

    output: dict[str, Any] | None = None
    error: JobError | None = None
    inference_seconds: float | None = None
    file_id: str | None = None
    """File to delete together with the job. None if the file has its own lifetime."""
    rendered_status: int | None = None
    """HTTP status of a failure that an older release stored as a rendered body. The body is in `output`."""

    @classmethod
    def failed(cls, error: CsmServeError) -> Self:
        return cls(error=JobError.of(error))

    @property
    def is_success(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that the work logs while it runs."""

    at: float
    level: LogLevel
    message: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A stored log line. `number` grows with time over all jobs."""

    number: int
    at: float
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class JobStatus:
    """`position` counts the jobs ahead of a queued job, from 0. None if the job is not queued."""

    job: Job
    position: int | None
    logs: tuple[LogEntry, ...]


class CancelAnswer(StrEnum):
    CANCELLED = "cancelled"
    """The job was queued and has ended."""
    REQUESTED = "requested"
    """The job runs; its runner will stop it."""
    ALREADY_COMPLETED = "already_completed"


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job that a runner holds. (`id`, `attempt`) fences every write of that runner."""

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
    """Time of the first start. None if no attempt has started yet."""

    @property
    def run_id(self) -> str:
        """Names this attempt, so that a lost attempt cannot be taken for the current one."""
        return run_id(self.id, self.attempt)


def run_id(job_id: str, attempt: int) -> str:
    return f"{job_id}-{attempt}"


@dataclass(frozen=True, slots=True)
class Backlog:
    """Jobs that have not ended: their numbers, and how long the oldest of those that wait has waited."""

    queued: int
    running: int
    oldest_wait_seconds: float = 0.0
