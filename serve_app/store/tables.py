"""The tables of files, uploads and stored pieces. Times are unix seconds."""

from sqlalchemy import BigInteger, Column, Double, Index, Integer, String, Table

from serve_app.store.database import METADATA

FILES = Table(
    "files",
    METADATA,
    Column("id", String, primary_key=True),
    Column("upload_id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("content_type", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("owner", String, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, index=True),
)
"""Files that can be read. `expires_at` NULL: kept until it is deleted."""

UPLOADS = Table(
    "uploads",
    METADATA,
    Column("id", String, primary_key=True),
    Column("file_id", String, nullable=False),
    Column("name", String, nullable=False),
    Column("content_type", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("kept_seconds", Double),
    Column("ends_at", Double, nullable=False, index=True),
)
"""Uploads in parts. A row stays until `ends_at`, so that completing an upload twice has the effect of once."""

PIECES = Table(
    "file_pieces",
    METADATA,
    Column("key", String, primary_key=True),
    Column("upload_id", String, nullable=False),
    Column("number", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("owner", String),
    Column("unused_at", Double, index=True),
    Index("file_pieces_by_upload", "upload_id", "number"),
    Index("file_pieces_by_owner", "owner"),
)
"""All objects of the store. A row exists from before the write until after the deletion, so no crash leaks an object.

`unused_at` NULL: part of a file. Otherwise the time from which no file needs it. `owner`: the key whose quota it
counts towards, until its bytes are gone."""
