"""Keys, and what they hold and owe right now. Of secrets there are hashes only."""

from sqlalchemy import Column, Double, Integer, LargeBinary, String, Table

from serve_app.store.database import METADATA

KEYS = Table(
    "keys",
    METADATA,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("scopes", String, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    # The secret before the last rotation, and when it ends to count.
    Column("previous_hash", LargeBinary),
    Column("previous_until", Double),
    # Null: the server's defaults, as they are when the key is used.
    Column("audio_seconds_per_minute", Double),
    Column("concurrency", Integer),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
    # Audio taken and not yet paid for by time, as of a moment.
    Column("audio_owed", Double, nullable=False, default=0.0),
    Column("audio_owed_at", Double, nullable=False, default=0.0),
)

HOLDS = Table(
    "key_holds",
    METADATA,
    Column("id", String, primary_key=True),
    Column("key_id", String, nullable=False, index=True),
    Column("expires_at", Double, nullable=False),
)
"""Requests that run now, of keys that have limits. Whoever runs one renews it."""
