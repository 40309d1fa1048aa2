"""The table of answer records. Times are unix seconds."""

from sqlalchemy import Column, Double, LargeBinary, String, Table, Text

from serve_app.store.database import METADATA

RECORDS = Table(
    "answer_records",
    METADATA,
    Column("owner", String, primary_key=True),
    Column("request_id", String, primary_key=True),
    Column("expires_at", Double, nullable=False, index=True),
    Column("description", Text, nullable=False),  # JSON, all of a record but its codes
    Column("codes", LargeBinary, nullable=False),  # of the context's segments, then of the parts, one after the other
)
