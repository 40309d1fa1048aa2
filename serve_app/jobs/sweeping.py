"""Jobs that ended long ago."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, select

from serve_app.jobs.tables import JOBS, RESULTS

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


def forget(connection: Connection, jobs: Sequence[OldJob]) -> None:
    """With their inputs, results and logs."""
    connection.execute(delete(JOBS).where(JOBS.c.number.in_([job.number for job in jobs])))
