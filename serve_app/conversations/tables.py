"""The tables of conversations. Times are unix seconds."""

from sqlalchemy import Column, Double, ForeignKey, Index, Integer, LargeBinary, String, Table, Text

from serve_app.store.database import METADATA

CONVERSATIONS = Table(
    "conversations",
    METADATA,
    Column("id", String, primary_key=True),
    Column("owner", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False, index=True),
    Column("voices", Text, nullable=False),  # JSON, segments without their codes
    Column("codes", LargeBinary, nullable=False),  # of the voices
    Column("num_codebooks", Integer, nullable=False),
    Column("num_turns", Integer, nullable=False),
    Column("first_kept", Integer, nullable=False),  # the oldest turn that the model still hears
    Column("taken_by", String),  # the turn that is being spoken
    Column("taken_until", Double),
    Index("conversations_of_owner", "owner", "created_at"),
)

TURNS = Table(
    "conversation_turns",
    METADATA,
    Column("conversation_id", String, ForeignKey("conversations.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("description", Text, nullable=False),  # JSON, all of a turn but its codes
    Column("codes", LargeBinary, nullable=False),
)
