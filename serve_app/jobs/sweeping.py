"""Jobs that ended long ago."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from serve_app.jobs.outbox import WebhookState
from serve_app.jobs.tables import JOBS, RESULTS, UNSTORED, WEBHOOKS

UNSTORED_SECONDS = 3600.0
"""From the end of a job of which nothing is to be kept: until then its result can be fetched, as long as fal's."""

_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class OldJob:
    number: int
    file_id: str | None


def old_jobs(connection: Connection, ended_before: float) -> list[OldJob]:
    """Some of them, the oldest first."""
    query = (
        select(JOBS.c.number, RESULTS.c.file_id)
        .outerjoin_from(JOBS, RESULTS, RESULTS.c.number == JOBS.c.number)
        .where(JOBS.c.ended_at < ended_before)
        .order_by(JOBS.c.ended_at)
        .limit(_AT_ONCE)
    )
    return [OldJob(*row) for row in connection.execute(query)]


def old_unstored_jobs(connection: Connection, now: float) -> list[OldJob]:
    """Some of those of which nothing is to be kept, once their ends are told. Their files stay for their own time."""
    untold = select(WEBHOOKS.c.id).where(WEBHOOKS.c.state == WebhookState.PENDING)
    query = (
        select(UNSTORED.c.number)
        .join_from(UNSTORED, JOBS, UNSTORED.c.number == JOBS.c.number)
        .where(JOBS.c.ended_at < now - UNSTORED_SECONDS, JOBS.c.id.not_in(untold))
        .limit(_AT_ONCE)
    )
    return [OldJob(number, None) for number in connection.scalars(query)]


def forget(connection: Connection, jobs: Sequence[OldJob]) -> None:
    """With their inputs, results and logs."""
    connection.execute(delete(JOBS).where(JOBS.c.number.in_([job.number for job in jobs])))
