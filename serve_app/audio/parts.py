"""Uploaded bytes as the recordings that they hold: tags, padding and junk left out, joined files taken apart.

The container is told from its signature, and each library is told which one to expect. What a library would guess
by itself (playlists, concat scripts, headerless formats) is out of reach, so no input opens a file or a socket.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from serve_app.audio.chunk_sizes import with_real_sizes
from serve_app.audio.frame_sync import first_frame
from serve_app.audio.joints import joints
from serve_app.audio.wav_chunks import wav_parts

_SIGNATURES = {
    "wav": re.compile(rb"RIFF....WAVE|RIFX....WAVE|RF64....WAVE|BW64....WAVE|riff\x2e\x91\xcf\x11", re.DOTALL),
    "flac": re.compile(rb"fLaC[\0\x80]\0\0\x22"),
    "ogg": re.compile(rb"OggS\0"),
    "matroska": re.compile(rb"\x1aE\xdf\xa3"),
    "mov": re.compile(rb"....(?:ftyp|moov|mdat|wide|free|skip|pnot|styp|moof|sidx|uuid)", re.DOTALL),
    "caf": re.compile(rb"caff\0[\1\2]"),
    "aiff": re.compile(rb"FORM....AIF[FC]", re.DOTALL),
    "au": re.compile(rb"\.snd|dns\."),
    "amr": re.compile(rb"#!AMR(?:-WB)?\n"),
}
_AFTER_JUNK = {
    **_SIGNATURES,
    "matroska": re.compile(rb"\x1aE\xdf\xa3.{1,60}(?:webm|matroska)", re.DOTALL),
    "mov": re.compile(rb"\0\0\0.ftyp", re.DOTALL),
    "au": re.compile(rb"\.snd\0\0..\xff?.{3}\0\0\0[\1-\x1b]", re.DOTALL),
}
"""Stricter, where the first bytes alone turn up by chance."""
_MAX_PARTS = 1000
_MAX_JUNK_BYTES = 1 << 20
_CHUNKED = ("aiff", "au", "caf")
_MIDDLE_OF_WEBM = (b"\x1fC\xb6u", b"\xa3")
_BEGINS_IN_THE_MIDDLE = (
    "the audio cannot be decoded: it begins in the middle of a recording; send it from its first piece on"
)
_MPEG_SYNC = 0xFFE0
_MPEG_LAYER = 0x0006
"""Zero in AAC's bare stream (ADTS), which shares MP3's sync bits."""
_LOAS_SYNC = 0x2B7
"""Of AAC as broadcasters send it (LATM in LOAS)."""


class Unreadable(Exception):
    """The bytes hold no recording that can be read. The message says why, if that is known, and what to do."""


@dataclass(frozen=True, slots=True)
class Part:
    """One recording from its own header on."""

    demuxer: str
    """FFmpeg's name of the container."""
    data: bytes


def parts(data: bytes) -> Iterator[Part]:
    """Yields the recordings in their order. Raises Unreadable where there is none."""
    start = _start(data)
    if start is None:
        raise Unreadable(_BEGINS_IN_THE_MIDDLE if data.startswith(_MIDDLE_OF_WEBM) else "")
    demuxer, offset = start
    if demuxer == "wav":
        yield from (Part("wav", part) for part in wav_parts(data[offset:]))
        return
    starts = joints(demuxer, data, offset)
    if len(starts) > _MAX_PARTS:
        raise Unreadable(f"the audio is joined from more than {_MAX_PARTS} recordings; send one")
    if not starts:
        raise Unreadable(_BEGINS_IN_THE_MIDDLE)
    for begin, end in zip(starts, (*starts[1:], len(data)), strict=True):
        content = _without_tags(data[begin:end])
        if content:
            yield Part(demuxer, with_real_sizes(demuxer, content) if demuxer in _CHUNKED else content)


def _start(data: bytes) -> tuple[str, int] | None:
    """The container and where it begins."""
    begin = _end_of_tags(data)
    if demuxer := _container_at(data, begin):
        return demuxer, begin
    # A tag may lie about its size, so the search begins behind the tag's own head.
    for area in dict.fromkeys((begin, min(begin, 10))):
        if found := _found_after_junk(data[area : area + _MAX_JUNK_BYTES]):
            return found[0], area + found[1]
    return None


def _container_at(data: bytes, begin: int) -> str | None:
    for demuxer, signature in _SIGNATURES.items():
        if signature.match(data, begin):
            return demuxer
    first_bits = int.from_bytes(data[begin : begin + 2], "big")
    if first_bits & _MPEG_SYNC == _MPEG_SYNC:
        return "mp3" if first_bits & _MPEG_LAYER else "aac"
    return "loas" if first_bits >> 5 == _LOAS_SYNC else None


def _found_after_junk(area: bytes) -> tuple[str, int] | None:
    found = [(demuxer, match.start()) for demuxer, sign in _AFTER_JUNK.items() if (match := sign.search(area))]
    if frame := first_frame(area):
        found.append(frame)
    return min(found, key=lambda one: one[1], default=None)


def _end_of_tags(data: bytes) -> int:
    """Where the tags and the padding in front end. FFmpeg would read them, at a cost that a crafted tag sets."""
    begin = 0
    while True:
        tag = data[begin : begin + 32]
        if tag.startswith(b"ID3") and len(tag) >= 10:
            begin += 10 + _syncsafe(tag[6:10]) + (10 if tag[5] & 0x10 else 0)
        elif tag.startswith(b"APETAGEX") and len(tag) == 32:
            begin += 32 + int.from_bytes(tag[12:16], "little")
        elif tag[:1] == b"\0" and not _SIGNATURES["mov"].match(data, begin):
            begin = len(data) - len(data[begin:].lstrip(b"\0"))
            # An MP4 begins with the zeros of its first box's size.
            begin -= next((n for n in (1, 2, 3) if _SIGNATURES["mov"].match(data, max(begin - n, 0))), 0)
            if data[begin : begin + 1] in (b"\0", b""):
                return begin
        else:
            return begin


def _without_tags(data: bytes) -> bytes:
    return data[_end_of_tags(data) :]


def _syncsafe(size: bytes) -> int:
    return sum((byte & 127) << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=True))
