"""Audio that arrives inside JSON: plain base64 or a `data:` URI."""

import base64
import binascii
from urllib.parse import unquote

from serve_app.errors import InvalidAudio

_URL_SAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n\v\f"


def audio_bytes(field: str, value: str) -> bytes:
    """Padding may be missing and lines may be broken; any other flaw is refused rather than skipped over."""
    encoded = _without_data_prefix(field, value)
    try:
        compact = encoded.encode("ascii").translate(_URL_SAFE_TO_STANDARD, delete=_WHITESPACE)
        data = base64.b64decode(_padded(compact), validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise InvalidAudio(
            field, "the audio is not valid base64; send the file's bytes in base64 or as a data: URI"
        ) from None
    if not data:
        raise InvalidAudio(field, "the audio is empty; send the file's bytes in base64 or as a data: URI")
    return data


def _without_data_prefix(field: str, value: str) -> str:
    stripped = value.lstrip()
    if stripped[:5].lower() != "data:":
        return stripped
    head, comma, encoded = stripped.partition(",")
    if not comma or not head.rstrip().lower().endswith(";base64"):
        raise InvalidAudio(field, "the data: URI is not base64; write it as data:audio/wav;base64,<the file in base64>")
    return unquote(encoded) if "%" in encoded else encoded


def _padded(compact: bytes) -> bytes:
    if not compact.endswith(b"="):
        return compact + b"=" * (-len(compact) % 4)
    if len(compact) % 4:
        raise binascii.Error("padding does not complete a group of four")  # Python lets some of these pass
    return compact
