"""Audio that arrives inside JSON: plain base64 or a `data:` URI."""

import base64
import binascii
import re
from urllib.parse import unquote

from serve_app.errors import InvalidAudio

_URL_SAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_BREAKS = b"\t\r\n\v\f"
_RUN = re.compile(rb"\s+")
_GROUP_CHARS = 4


def audio_bytes(field: str, value: str) -> bytes:
    """Padding may be missing and lines may be broken; any other flaw is refused rather than skipped over.

    Spaces are plus signs that a form turned into them, unless they part the text into lines of one length.
    """
    encoded = _without_data_prefix(field, value)
    try:
        data = _decoded(_compact(encoded.encode("ascii").lstrip()))
    except _Ambiguous:
        raise InvalidAudio(
            field,
            "there are spaces in the base64, which may have been plus signs: percent-encode the form "
            "(curl --data-urlencode), or send JSON",
        ) from None
    except (UnicodeEncodeError, binascii.Error):
        raise InvalidAudio(
            field, "the audio is not valid base64; send the file's bytes in base64 or as a data: URI"
        ) from None
    if not data:
        raise InvalidAudio(field, "the audio is empty; send the file's bytes in base64 or as a data: URI")
    return data


class _Ambiguous(Exception):
    """Nothing tells what the spaces were."""


def _compact(text: bytes) -> bytes:
    """`text` without white space. Raises _Ambiguous where a space may have been a plus sign or not."""
    dropped = text.translate(None, b" " + _BREAKS)
    if b" " not in text:
        return dropped
    is_in_lines = _is_in_lines(text)
    # Plus signs keep no such order. One run of spaces alone tells nothing.
    if is_in_lines and (len(text.split()) > 2 or any(sign in text for sign in b"+-_")):
        return dropped
    candidates = () if any(sign in text for sign in b"-_") else (text, text.rstrip(b" "))
    restored = {reading for reading in map(_restored, candidates) if _is_base64(reading)}
    # Whole groups of four come before missing padding.
    readings = {reading for reading in restored if len(reading) % _GROUP_CHARS == 0} or restored
    if is_in_lines and _is_base64(dropped):
        readings.add(dropped)
    if len(readings) != 1:
        raise _Ambiguous
    return readings.pop()


def _restored(text: bytes) -> bytes:
    return text.translate(None, _BREAKS).replace(b" ", b"+")


def _is_in_lines(text: bytes) -> bool:
    """Whether white space parts the text into lines of one length."""
    *lines, last = text.split()
    lengths = {len(line) for line in lines}
    if not lengths:
        return True
    is_broken = all(any(sign in _BREAKS for sign in run) for run in _RUN.findall(text.strip()))
    length = lengths.pop()
    return not lengths and len(last) <= length and (is_broken or length % _GROUP_CHARS == 0)


def _is_base64(text: bytes) -> bool:
    try:
        return bool(_decoded(text))
    except binascii.Error:
        return False


def _decoded(compact: bytes) -> bytes:
    return base64.b64decode(_padded(compact.translate(_URL_SAFE_TO_STANDARD)), validate=True)


def _without_data_prefix(field: str, value: str) -> str:
    stripped = value.lstrip()
    if stripped[:5].lower() != "data:":
        return unquote(stripped) if "%" in stripped else stripped
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
