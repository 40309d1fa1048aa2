"""A kept voice, and what its owner sends to make one."""

import secrets
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from serve_app.errors import InvalidRequest

ID_PREFIX = "voice_"
MAX_NAME_CHARS = 64
_MAX_CONSENT_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Consent:
    """The statement that the person who is heard agrees, and who made it. Both are required."""

    statement: str
    by: str


@dataclass(frozen=True, slots=True)
class VoiceClip:
    """A recording as it was uploaded, in any format, and the words spoken in it."""

    text: str
    data: bytes


@dataclass(frozen=True, slots=True)
class NewVoice:
    """A voice to keep."""

    name: str
    clips: tuple[VoiceClip, ...]
    consent: Consent
    adapter: str | None = None
    """Name of the adapter that speaks it."""


@dataclass(frozen=True, slots=True)
class Voice:
    """A kept voice without its sound."""

    id: str
    owner: str
    """Id of the key that keeps it."""
    name: str
    transcripts: tuple[str, ...]
    """Of its clips, in order."""
    consent: Consent
    consent_at: float
    """Unix seconds."""
    created_at: float
    report: dict[str, Any] = field(default_factory=dict)
    """What was found when the recordings were taken in, and the scores of the latest audition."""
    adapter: str | None = None
    """Name of the adapter that speaks it."""


def new_voice_id() -> str:
    return ID_PREFIX + secrets.token_hex(10)


def checked_name(name: str) -> str:
    """The name without spaces around it. Raises InvalidRequest at `name`."""
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= MAX_NAME_CHARS or not name.isprintable():
        raise InvalidRequest("name", f"must have 1 to {MAX_NAME_CHARS} printable characters: send another name")
    if name.isdecimal() or name_key(name).startswith(ID_PREFIX):
        raise InvalidRequest(
            "name", f"must not be a number or begin with {ID_PREFIX}: those are speakers and ids; send another name"
        )
    return name


def name_key(name: str) -> str:
    """How names are compared: without regard to case, form and spaces around them."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def checked_consent(consent: Consent) -> Consent:
    """Raises InvalidRequest at `consent.statement` or `consent.by` where one is missing or too long."""
    for part, text, remedy in (
        ("statement", consent.statement, "send how the person who is heard agreed to this use of their voice"),
        ("by", consent.by, "send who makes this statement"),
    ):
        if not text.strip():
            raise InvalidRequest(f"consent.{part}", f"is missing: {remedy}")
        if len(text) > _MAX_CONSENT_CHARS:
            raise InvalidRequest(f"consent.{part}", f"has more than {_MAX_CONSENT_CHARS} characters: shorten it")
    return Consent(consent.statement.strip(), consent.by.strip())
