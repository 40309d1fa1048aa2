"""What is known of a file beside its bytes. Names and types come from strangers and end in headers and paths."""

import hashlib
import re
import secrets
from dataclasses import dataclass

MAX_NAME_CHARS = 128
_MAX_SUFFIX_CHARS = 16
DEFAULT_CONTENT_TYPE = "application/octet-stream"

_NOT_IN_A_NAME = re.compile(r'[\x00-\x1f\x7f-\x9f"\\/:*?<>|;\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+')
"""Controls, what ends or quotes a header's value, path separators, and marks that turn the direction of text."""
_NOT_IN_A_PATH = re.compile(r"[^A-Za-z0-9._-]+")
_TOKEN = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,63}"
_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(; ?{_TOKEN}={_TOKEN}){{0,4}}")


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that can be read. Times are unix seconds."""

    id: str
    name: str
    """Safe within quotes in a header but for letters beyond ASCII; see `ascii_name`."""
    content_type: str
    size: int
    owner: str
    created_at: float
    expires_at: float | None
    """None: until it is deleted."""
    upload_id: str
    """Names this very content. For whoever uploads it: who knows it adds parts."""

    @property
    def ascii_name(self) -> str:
        return ascii_name(self.name)

    @property
    def path(self) -> str:
        return file_path(self.id, self.name)

    @property
    def etag(self) -> str:
        """For everybody who may read it, with its quotes."""
        return f'"{hashlib.sha256(self.upload_id.encode()).hexdigest()[:32]}"'


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way, in parts."""

    id: str
    file_id: str
    name: str
    content_type: str
    owner: str
    kept_seconds: float | None
    """Of the file, from when it is complete; None: until it is deleted."""
    ends_at: float
    """Unix seconds; after that its parts are dropped."""

    @property
    def path(self) -> str:
        """Of the file that it will be."""
        return file_path(self.file_id, self.name)


def new_file_id() -> str:
    """192 random bits: whoever has the id may read the file."""
    return secrets.token_urlsafe(24)


def file_path(file_id: str, name: str) -> str:
    """The public path. The id alone finds the file; the name is for people and their players."""
    return f"/files/{file_id}/{ascii_name(name)}"


def safe_name(name: str) -> str:
    """The last component of what a stranger calls a file, without what could mean something to a header or a shell."""
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
    """`content_type` where it is one, without parameters that are none; else that of bytes."""
    candidates = (content_type, content_type.partition(";")[0].strip())
    return next((candidate for candidate in candidates if _TYPE.fullmatch(candidate)), DEFAULT_CONTENT_TYPE)
