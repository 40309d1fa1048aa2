"""Jobs that were submitted together. Each is leased, ends and is deleted by itself; the batch only lists them."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import IntegrityError

from serve_app.errors import InvalidRequest, UnknownBatch
from serve_app.jobs.job import Job, JobResult, NewJob
from serve_app.jobs.status import BATCH, job_of, result_of
from serve_app.jobs.submission import Submission, submit
from serve_app.jobs.tables import BATCHES, JOBS
from serve_app.settings import JobSettings
from serve_app.store.database import Clock, Database, reads, time_of, writes

_REPEATS = uuid.UUID("6f4dbf2c-9a1e-4b8e-8a60-2f6f5b0b3a11")
"""Namespace of the ids of batches whose caller sent an idempotency key."""


@dataclass(frozen=True, slots=True)
class BatchItem:
    """`position` counts from 0, as the items were sent. `result` is None while the job has not ended."""

    position: int
    job: Job
    result: JobResult | None


class JobBatches:
    """Each call is one transaction, and any process may make it."""

    def __init__(self, database: Database, settings: JobSettings, clock: Clock | None = None) -> None:
        self._database = database
        self._settings = settings
        self._now = time_of(clock)

    async def submit(self, jobs: Sequence[NewJob], key_id: str, idempotency_key: str | None = None) -> str:
        """Queue all `jobs` of a key or none, and return the batch's id.

        A submit with the same idempotency key returns the batch that the first one made. Raises InvalidRequest if that
        held other jobs, Overloaded and LimitReached if the queue has no room for all.
        """
        batch_id = str(uuid.uuid4())
        if idempotency_key is not None:
            batch_id = str(uuid.uuid5(_REPEATS, f"{key_id}\0{idempotency_key}"))
        try:
            await self._submit(jobs, batch_id)
        except IntegrityError:
            # Another submit with the same idempotency key committed first; this time its jobs are found.
            await self._submit(jobs, batch_id)
        return batch_id

    @writes
    def _submit(self, connection: Connection, jobs: Sequence[NewJob], batch_id: str) -> None:
        known = set(connection.scalars(select(BATCHES.c.position).where(BATCHES.c.batch_id == batch_id)))
        if known and known != set(range(len(jobs))):
            raise InvalidRequest("idempotency_key", "was used for another request: send a new one with each request")
        now = self._now(connection)
        for position, job in enumerate(jobs):
            # Equal items of one batch are two jobs, and neither is the other one sent again.
            identity = {"batch": batch_id, "position": position, "job": job.identity or job.input}
            own = replace(job, idempotency_key=f"{batch_id}/{position}", identity=identity)
            job_id = submit(connection, Submission(own, now, now), self._settings)
            if position not in known:
                number = connection.scalar(select(JOBS.c.number).where(JOBS.c.id == job_id))
                row = {"number": number, "batch_id": batch_id, "position": position}
                connection.execute(insert(BATCHES).values(**row))

    @reads
    def items(self, connection: Connection, batch_id: str, key_id: str) -> list[BatchItem]:
        """Those that are not deleted, in their order. Raises UnknownBatch, also for a batch of another key."""
        rows = connection.execute(BATCH, {"batch_id": batch_id, "key_id": key_id}).all()
        if not rows:
            raise UnknownBatch(batch_id)
        return [BatchItem(row.position, job_of(row), result_of(row)) for row in rows]
