"""The table of adapters that were added while the server ran."""

from sqlalchemy import Column, Double, String, Table, Text

from serve_app.store.database import METADATA

ADAPTERS = Table(
    "adapters",
    METADATA,
    Column("name", String, primary_key=True),
    Column("source", Text, nullable=False),
    Column("revision", String),
    Column("version", String, nullable=False),  # new at every change, so that no replica uses the files of before
    Column("added_at", Double, nullable=False),
)
"""Times are unix seconds."""
