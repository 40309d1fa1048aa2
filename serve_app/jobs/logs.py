"""What a running job says of itself."""

from collections.abc import Sequence

from sqlalchemy import Connection, func, insert, select

from serve_app.jobs.job import JobState, LeasedJob, LogLine
from serve_app.jobs.tables import JOBS, LOGS


def write(connection: Connection, leased: LeasedJob, lines: Sequence[LogLine], max_lines: int) -> None:
    """Append to the job's log, up to `max_lines` in all; a lost attempt writes nothing."""
    number = connection.scalar(
        select(JOBS.c.number)
        .where(JOBS.c.id == leased.id, JOBS.c.attempt == leased.attempt, JOBS.c.state == JobState.RUNNING)
        .with_for_update()
    )
    if number is None:
        return
    written = connection.scalar(select(func.count()).select_from(LOGS).where(LOGS.c.job == number)) or 0
    rows = [
        {"job": number, "at": line.at, "level": line.level, "message": line.message}
        for line in lines[: max(0, max_lines - written)]
    ]
    if rows:
        connection.execute(insert(LOGS), rows)
