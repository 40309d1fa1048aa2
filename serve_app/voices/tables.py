"""The tables of kept voices. Times are unix seconds. The recordings and their codes are files of the store."""

from sqlalchemy import Column, Double, ForeignKey, String, Table, Text, UniqueConstraint

from serve_app.store.database import METADATA

VOICES = Table(
    "voices",
    METADATA,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),  # the key's id
    Column("name", String, nullable=False),  # as the owner wrote it
    Column("name_key", String, nullable=False),  # as it is compared
    Column("transcripts", Text, nullable=False),  # JSON: one for each clip
    Column("report", Text, nullable=False),  # JSON
    Column("source_file", String, nullable=False),
    Column("consent_statement", Text, nullable=False),
    Column("consent_by", Text, nullable=False),
    Column("consent_at", Double, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("adapter", String),
    UniqueConstraint("owner", "name_key", name="voices_by_name"),
)

VOICE_CODES = Table(
    "voice_codes",  # codes of one codec each, so that servers of several checkpoints share a database
    METADATA,
    Column("voice", String, ForeignKey("voices.id", ondelete="CASCADE"), primary_key=True),
    Column("codec", String, primary_key=True),
    Column("file", String, nullable=False),
)
