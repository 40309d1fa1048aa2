"""The tables of jobs and webhooks. Times are unix seconds.

Inputs and results have their own tables, so that status queries read neither.
"""

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Index, Integer, String, Table, Text

from serve_app.store.database import METADATA

_SERIAL = BigInteger().with_variant(Integer, "sqlite")

JOBS = Table(
    "jobs",
    METADATA,
    Column("number", _SERIAL, primary_key=True),  # grows with the order of arrival
    Column("id", String(36), nullable=False, unique=True),
    Column("endpoint", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("state", String(16), nullable=False),
    Column("rank", Integer, nullable=False),  # of the priority; lower ranks are served first
    Column("created_at", Double, nullable=False),
    Column("available_at", Double, nullable=False),  # earliest start, after a failed attempt
    Column("start_by", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("attempt", Integer, nullable=False, default=0),  # grows with each lease; fences off lost attempts
    Column("failures", Integer, nullable=False, default=0),
    Column("max_attempts", Integer, nullable=False),
    Column("owner", String),
    Column("lease_until", Double),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("reason", Text),  # why the last attempt ended without a result
    Column("webhook_url", Text),
    Column("idempotency_key", String),
    Column("fingerprint", String(64), nullable=False),
    Column("unanswered_since", Double),  # NULL once the caller has received the id
    Column("error_type", String),  # the error's kind, and the JSON of its arguments
    Column("error", Text),
    Column("inference_seconds", Double),
    Column("turn", Double, nullable=False, server_default="0"),  # see `shares`
    Column("application", String, nullable=False, server_default=""),  # whose model it is for; empty: any
    Index("jobs_in_turns", "state", "rank", "turn", "number"),
    Index("jobs_in_turns_of_application", "state", "application", "rank", "turn", "number"),
    Index("jobs_of_key", "key_id", "state"),
    Index("jobs_ended", "ended_at"),
    Index("jobs_fingerprint", "fingerprint"),
    Index("jobs_idempotency_key", "key_id", "idempotency_key", unique=True),
)

INPUTS = Table(
    "job_inputs",
    METADATA,
    Column("number", _SERIAL, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("input", Text, nullable=False),  # JSON, like the headers
    Column("headers", Text, nullable=False),
)

SHARES = Table(
    "job_shares",
    METADATA,
    Column("key_id", String, primary_key=True),  # behind the name of an application
    Column("used", Double, nullable=False),  # see `shares`
)

JOB_FILES = Table(
    "job_files",  # files that were stored for a job alone, and are deleted with its input
    METADATA,
    Column("number", _SERIAL, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("file_id", String, primary_key=True),
    Index("job_files_by_file", "file_id"),
)

UNSTORED = Table(
    "jobs_unstored",  # jobs whose input and result are not kept
    METADATA,
    Column("number", _SERIAL, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
)

BATCHES = Table(
    "job_batches",  # jobs that were submitted together
    METADATA,
    Column("number", _SERIAL, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("batch_id", String(36), nullable=False),
    Column("position", Integer, nullable=False),  # from 0, as they were sent
    Index("job_batches_by_batch", "batch_id", "position"),
)

RESULTS = Table(
    "job_results",
    METADATA,
    # The primary key is the job, so a second result cannot be written.
    Column("number", _SERIAL, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("status_code", Integer, nullable=False, default=0),  # only older releases stored it
    Column("file_id", String),
    Column("body", Text, nullable=False),  # the output as JSON
)

LOGS = Table(
    "job_logs",
    METADATA,
    Column("number", _SERIAL, primary_key=True),
    Column("job", _SERIAL, ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
    Column("at", Double, nullable=False),
    Column("level", String(8), nullable=False),
    Column("message", Text, nullable=False),
    Index("job_logs_of_job", "job", "number"),
)

WEBHOOKS = Table(
    "webhooks",
    METADATA,
    Column("id", String(36), primary_key=True),  # the job's
    Column("key_id", String, nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),  # the bytes that are signed and sent
    Column("state", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("next_at", Double, nullable=False),  # of a leased webhook: end of the lease
    Column("lease", Integer, nullable=False, default=0),  # grows with each lease; fences off lost ones
    Column("failures", Integer, nullable=False, default=0),
    Column("reason", Text),  # of the last failure
    Column("ended_at", Double),
    Index("webhooks_due", "state", "next_at"),
    Index("webhooks_ended", "ended_at"),
)
