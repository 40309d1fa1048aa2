"""Names a checkpoint by its content."""

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

_BLOB = re.compile(r"[0-9a-f]{64}")
"""Files of the Hub's cache are links to blobs, whose names are the SHA-256 of their content."""
_HEX_DIGITS = 32


def checkpoint_hash(files: Iterable[Path]) -> str:
    """Of configuration and weights, in this order. Reads each local file once; a GB takes about a second."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name}:{_hash_of(path)}\n".encode())
    return digest.hexdigest()[:_HEX_DIGITS]


def _hash_of(path: Path) -> str:
    blob = path.resolve().name
    if path.is_symlink() and _BLOB.fullmatch(blob):
        return blob
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
