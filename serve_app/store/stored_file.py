"""A file's record without its bytes. Names and types come from users and end up in headers and paths."""

import hashlib
import re
import secrets
from dataclasses import dataclass

MAX_NAME_CHARS = 128
_MAX_SUFFIX_CHARS = 16
DEFAULT_CONTENT_TYPE = "application/octet-stream"

_NOT_IN_A_NAME = re.compile(r'[\x00-\x1f\x7f-\x9f"\\/:*?<>|;\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+')
"""Control characters, quotes and separators of headers and paths, and marks that change the text direction."""
_NOT_IN_A_PATH = re.compile(r"[^A-Za-z0-9._-]+")
_TOKEN = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}"
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(; ?{_TOKEN}={_TOKEN}){{0,4}}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that can be read. Times are unix seconds."""

    id: str
    name: str
    """Safe inside a quoted header value, except for non-ASCII letters; see `ascii_name`."""
    content_type: str
    size: int
    owner: str
    created_at: float
    expires_at: float | None
    """None: kept until it is deleted."""
    upload_id: str
    """Identifies this content. Secret, since it permits adding parts to the upload."""

    @property
    def ascii_name(self) -> str:
        return ascii_name(self.name)

    @property
    def path(self) -> str:
        return file_path(self.id, self.name)

    @property
    def etag(self) -> str:
        """The public entity tag, with its quotes."""
        return f'"{hashlib.sha256(self.upload_id.encode()).hexdigest()[:32]}"'


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload in progress."""

    id: str
    file_id: str
    name: str
    content_type: str
    owner: str
    kept_seconds: float | None
    """Lifetime of the file from its completion. None: until it is deleted."""
    ends_at: float
    """Unix seconds. After that the parts are dropped."""

    @property
    def path(self) -> str:
        """Path of the complete file."""
        return file_path(self.file_id, self.name)


def new_file_id() -> str:
    """192 random bits, since the id alone permits reading the file."""
    return secrets.token_urlsafe(24)


def file_path(file_id: str, name: str) -> str:
    """The public path. Only the id finds the file; the name is for people and players."""
    return f"/files/{file_id}/{ascii_name(name)}"


def safe_name(name: str) -> str:
    """The last component of a user's file name, without characters that are special in headers and paths."""
    last = re.split(r"[/\\]", name)[-1]
    cleaned = _NOT_IN_A_NAME.sub("_", last).strip(" .")
    if len(cleaned) > MAX_NAME_CHARS:
        suffix = "." + cleaned.rpartition(".")[2]
        suffix = suffix if len(suffix) <= _MAX_SUFFIX_CHARS else ""
        cleaned = cleaned[: MAX_NAME_CHARS - len(suffix)] + suffix
    return cleaned or "file"


def ascii_name(name: str) -> str:
    return _NOT_IN_A_PATH.sub("_", safe_name(name)).lstrip(".") or "file"


def safe_content_type(content_type: str) -> str:
    """A valid `content_type`, without malformed parameters. Otherwise the default type."""
    candidates = (content_type, content_type.partition(";")[0].strip())
    return next((candidate for candidate in candidates if _TYPE.fullmatch(candidate)), DEFAULT_CONTENT_TYPE)
