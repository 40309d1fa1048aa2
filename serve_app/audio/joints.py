"""Where one recording ends and the next one begins, in a file that was joined from several."""

import re
from collections.abc import Iterator

_STARTS = {
    "flac": re.compile(rb"fLaC[\0\x80]\0\0\x22"),
    "matroska": re.compile(rb"\x1aE\xdf\xa3[^\x1a]{1,60}?(?:webm|matroska)", re.DOTALL),
    "caf": re.compile(rb"caff\0[\1\2]\0\0desc\0\0\0\0\0\0\0\x20"),
    "aiff": re.compile(rb"FORM....AIF[FC](?:COMM|FVER)", re.DOTALL),
    "amr": re.compile(rb"#!AMR(?:-WB)?\n"),
    # Between frames an encoder's tag is noise to the decoder, and a picture in it may look like frames.
    "mp3": re.compile(rb"ID3[\2-\4]\0[\0-\xf0][\0-\x7f]{4}"),
    "aac": re.compile(rb"ID3[\2-\4]\0[\0-\xf0][\0-\x7f]{4}"),
}
_OGG_PAGE_HEAD_BYTES = 27
_OGG_FIRST_PAGE = 2


def joints(demuxer: str, data: bytes, begin: int) -> list[int]:
    """Positions of all starts from `begin` on, of which `begin` is one. None for an Ogg file without a first page."""
    if demuxer == "ogg":
        return list(_ogg_links(data, begin))
    if demuxer == "mov":
        return [begin, *_later_mp4s(data, begin)]
    if demuxer not in _STARTS:
        return [begin]
    return [begin, *(match.start() for match in _STARTS[demuxer].finditer(data, begin + 1))]


def _ogg_links(data: bytes, position: int) -> Iterator[int]:
    """A link begins with one first page for each of its streams."""
    in_head = False
    while (position := data.find(b"OggS", position)) >= 0:
        head = data[position : position + _OGG_PAGE_HEAD_BYTES]
        if len(head) < _OGG_PAGE_HEAD_BYTES:
            return
        is_first = bool(head[5] & _OGG_FIRST_PAGE)
        if is_first and not in_head:
            yield position
        in_head = is_first
        segments = data[position + _OGG_PAGE_HEAD_BYTES : position + _OGG_PAGE_HEAD_BYTES + head[26]]
        end = position + _OGG_PAGE_HEAD_BYTES + head[26] + sum(segments)
        # A damaged page may lie about its size.
        position = end if data.startswith(b"OggS", end) else position + 4


def _later_mp4s(data: bytes, position: int) -> Iterator[int]:
    """A file type box behind an index begins another file."""
    index_seen = False
    while position + 8 <= len(data):
        size, name = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if size == 1:
            size = int.from_bytes(data[position + 8 : position + 16], "big")
        if name == b"ftyp" and index_seen:
            yield position
            index_seen = False
        index_seen = index_seen or name in (b"moov", b"moof")
        if size < 8:
            return
        position += size
