"""The tables of keys and of their running requests. Secrets are stored as hashes only."""

from sqlalchemy import Column, Double, Integer, LargeBinary, String, Table

from serve_app.store.database import METADATA

KEYS = Table(
    "keys",
    METADATA,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("scopes", String, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    # The secret before the last rotation, and when it becomes invalid.
    Column("previous_hash", LargeBinary),
    Column("previous_until", Double),
    # NULL: the server's defaults at the time of use.
    Column("audio_seconds_per_minute", Double),
    Column("concurrency", Integer),
    Column("created_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
    # Audio debt in seconds, and the time of that balance.
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
"""Running requests of keys with limits. The process that runs a request renews its row."""
