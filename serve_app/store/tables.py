"""Files and the pieces that they are stored in."""

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
"""A row is a file that can be read. `expires_at` NULL: kept until it is deleted."""

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
"""A file that comes in parts, and stays here until `ends_at`, so that completing it twice is the same as once."""

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
"""Every object in the store, from before it is written until after it is deleted: no crash leaves an unknown one.

`unused_at` NULL: part of a file. Otherwise no file needs it from then on, unless its upload ends before. `owner`:
whose quota it counts in; NULL once it was given up."""
