"""WAV in all its spellings (RIFF, RIFX, RF64, BW64, W64), written anew with sizes that are true.

A size in a header is a claim. Writers that do not know the length yet leave 0, 0xFFFFFFFF or what the last flush
was, and joined files keep the size of their first one. So the samples end where the next header begins, and not
where the size says.
"""

import re
import struct
from collections.abc import Iterator

import numpy as np

_RIFF_STARTS = (b"RIFF", b"RIFX", b"RF64", b"BW64")
_FORM_AND_CHUNK = re.compile(rb"WAVE(?:fmt |ds64|JUNK|bext|LIST)")
_W64_START = b"riff\x2e\x91\xcf\x11"
_UNKNOWN_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)
_CHUNK_NAME = re.compile(rb"[A-Za-z0-9_][\w \-+.]{3}")
_MAX_FORMAT_BYTES = 4096
_MAX_CHUNKS = 10_000
_UINT32 = struct.Struct("<I")
_FORMAT = struct.Struct("<HHIIHH")
_FORMAT_BIG = struct.Struct(">HHIIHH")
"""Kind, channels, sample rate, bytes a second, bytes of all channels' samples, bits of one."""
_PCM = 1
_FLOAT = 3
_EXTENSIBLE = 0xFFFE
_CONTAINER_BITS = (8, 16, 24, 32)
_MAX_SIZE = 0xFFFFFFFF


def wav_parts(data: bytes) -> Iterator[bytes]:
    """One plain WAV (format and samples) for each file that was joined here; files without either are left out."""
    begin = 0
    while begin < len(data):
        parsed = _w64(data, begin) if data.startswith(_W64_START, begin) else _riff(data, begin)
        if parsed is None:
            end = _next_file(data, begin + 4)
        else:
            head, format_chunk, first, claimed_end = parsed
            end = _next_file(data, first)
            is_right = claimed_end is not None and claimed_end < end and _is_chunks(data, head, claimed_end, end)
            yield _plain(head, format_chunk, data[first : claimed_end if is_right else end])
        begin = end


def _next_file(data: bytes, position: int) -> int:
    if data.startswith(_W64_START):
        found = data.find(_W64_START, position)
        return found if found >= 0 else len(data)
    for match in _FORM_AND_CHUNK.finditer(data, position + 8):
        if data[match.start() - 8 : match.start() - 4] in _RIFF_STARTS:
            return match.start() - 8
    return len(data)


_Parsed = tuple[bytes, bytes, int, int | None]
"""RIFF or RIFX, the format chunk's content, where the samples begin, and where they end if the header knows."""


def _riff(data: bytes, begin: int) -> _Parsed | None:
    head = b"RIFX" if data.startswith(b"RIFX", begin) else b"RIFF"
    position, format_chunk, long_size = begin + 12, b"", None
    for _ in range(_MAX_CHUNKS):
        if position + 8 > len(data):
            return None
        name, size = data[position : position + 4], _size(data, head, position + 4)
        content = position + 8
        if name == b"data" and format_chunk:
            if size == _MAX_SIZE and long_size:
                size = long_size
            return head, format_chunk, content, None if size in _UNKNOWN_SIZES else content + size
        if name == b"fmt ":
            format_chunk = data[content : content + min(size, _MAX_FORMAT_BYTES)]
        elif name == b"ds64":
            long_size = int.from_bytes(data[content + 8 : content + 16], "little")
        position = _next_chunk(data, content, size)
    return None


def _next_chunk(data: bytes, content: int, size: int) -> int:
    """Odd chunks are followed by a byte of padding, which some writers leave out."""
    end = content + size
    return end + 1 if size & 1 and not _CHUNK_NAME.match(data, end) else end


def _w64(data: bytes, begin: int) -> _Parsed | None:
    """Names of 16 bytes, of which the first four say enough; sizes count the head of 24 and are rounded up to 8."""
    position, format_chunk = begin + 40, b""
    for _ in range(_MAX_CHUNKS):
        if position + 24 > len(data):
            return None
        name, size = data[position : position + 4], int.from_bytes(data[position + 16 : position + 24], "little")
        content = position + 24
        if name == b"data" and format_chunk:
            return b"RIFF", format_chunk, content, position + size if 24 < size < 1 << 62 else None
        if name == b"fmt ":
            format_chunk = data[content : min(position + size, content + _MAX_FORMAT_BYTES)]
        position += max(24, size + 7 & ~7)
    return None


def _size(data: bytes, head: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "big" if head == b"RIFX" else "little")


def _is_chunks(data: bytes, head: bytes, position: int, end: int) -> bool:
    """Whether chunks stand here, and not more samples than the header knew of."""
    position += position & 1 if not _CHUNK_NAME.match(data, position) else 0
    if end - position < 8:
        return True
    return bool(_CHUNK_NAME.match(data, position)) and _size(data, head, position + 4) <= end - position


def _plain(head: bytes, format_chunk: bytes, samples: bytes) -> bytes:
    if head == b"RIFX":
        # FFmpeg reads RIFX's header, but takes its samples for little-endian ones.
        format_chunk, samples = _little_endian(format_chunk, samples)
    mended = _mended_format(format_chunk)
    mended += bytes(len(mended) & 1)
    riff_size = min(20 + len(mended) + len(samples), _MAX_SIZE)
    return b"".join((
        b"RIFF", _UINT32.pack(riff_size), b"WAVE",
        b"fmt ", _UINT32.pack(len(mended)), mended,
        b"data", _UINT32.pack(min(len(samples), _MAX_SIZE)), samples,
    ))  # fmt: skip


def _little_endian(format_chunk: bytes, samples: bytes) -> tuple[bytes, bytes]:
    if len(format_chunk) < _FORMAT_BIG.size:
        return format_chunk, samples
    kind, channels, rate, byte_rate, block_bytes, bits = _FORMAT_BIG.unpack_from(format_chunk)
    if kind == _EXTENSIBLE and len(format_chunk) >= 28:
        kind = int.from_bytes(format_chunk[24:28], "big")
    width = block_bytes // max(channels, 1)
    if kind in (_PCM, _FLOAT) and width > 1:
        whole = np.frombuffer(samples, np.uint8, len(samples) // width * width)
        samples = whole.reshape(-1, width)[:, ::-1].tobytes()
    return _FORMAT.pack(kind & 0xFFFF, channels, rate, byte_rate, block_bytes, bits), samples


def _mended_format(content: bytes) -> bytes:
    """PCM's bits a sample as the size of a sample says: 20 or 24 bits may lie in 32."""
    if len(content) < _FORMAT.size:
        return content
    kind, channels, rate, byte_rate, block_bytes, bits = _FORMAT.unpack_from(content)
    if kind not in (_PCM, _EXTENSIBLE) or not channels:
        return content
    container_bits = 8 * block_bytes // channels
    if container_bits in _CONTAINER_BITS and bits <= container_bits:
        bits = container_bits
    elif kind == _PCM:
        block_bytes = channels * ((bits + 7) // 8)
    return _FORMAT.pack(kind, channels, rate, byte_rate, block_bytes & 0xFFFF, bits) + content[_FORMAT.size :]
