"""The tables of jobs and webhooks. Times are unix seconds.

What a job was given and what it gave stand apart from the job itself, so that asking how far it is reads neither.
"""

from sqlalchemy import BigInteger, Boolean, Column, Double, ForeignKey, Index, Integer, String, Table, Text

from serve_app.store.database import METADATA

_SERIAL = BigInteger().with_variant(Integer, "sqlite")

JOBS = Table(
    "jobs",
    METADATA,
    Column("number", _SERIAL, primary_key=True),  # who came first
    Column("id", String(36), nullable=False, unique=True),
    Column("endpoint", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("state", String(16), nullable=False),
    Column("rank", Integer, nullable=False),  # of the priority: lower ones are served first
    Column("created_at", Double, nullable=False),
    Column("available_at", Double, nullable=False),  # not before this, after an attempt that failed
    Column("start_by", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("attempt", Integer, nullable=False, default=0),  # grows with each lease: the fence against lost ones
    Column("failures", Integer, nullable=False, default=0),
    Column("max_attempts", Integer, nullable=False),
    Column("owner", String),
    Column("lease_until", Double),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("reason", Text),  # why the last attempt ended without a result
    Column("webhook_url", Text),
    Column("idempotency_key", String),
    Column("fingerprint", String(64), nullable=False),
    Column("unanswered_since", Double),  # NULL once its caller was told the id
    Column("error_type", String),
    Column("error", Text),
    Column("inference_seconds", Double),
    Index("jobs_in_turn", "state", "rank", "number"),
    Index("jobs_ended", "ended_at"),
    Index("jobs_fingerprint", "fingerprint"),
    Index("jobs_idempotency_key", "key_id", "idempotency_key", unique=True),
)

INPUTS = Table(
    "job_inputs",
    METADATA,
    Column("number", _SERIAL, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("input", Text, nullable=False),  # JSON, as the headers
    Column("headers", Text, nullable=False),
)

UNSTORED = Table(
    "jobs_unstored",  # whose callers want nothing of them kept
    METADATA,
    Column("number", _SERIAL, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
)

RESULTS = Table(
    "job_results",
    METADATA,
    # One job, one result: a second one cannot be written.
    Column("number", _SERIAL, ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("file_id", String),
    Column("body", Text, nullable=False),  # JSON
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
    Column("id", String(36), primary_key=True),  # the job's: one webhook, however often it is delivered
    Column("key_id", String, nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),  # the very bytes that are signed and sent
    Column("state", String(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("next_at", Double, nullable=False),  # of a leased one: when the lease ends
    Column("lease", Integer, nullable=False, default=0),  # grows with each: the fence
    Column("failures", Integer, nullable=False, default=0),
    Column("reason", Text),  # of the last failure
    Column("ended_at", Double),
    Index("webhooks_due", "state", "next_at"),
    Index("webhooks_ended", "ended_at"),
)
