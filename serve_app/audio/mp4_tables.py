"""Bounds what an MP4's index may claim, before FFmpeg builds it in memory.

FFmpeg expands run-length tables at 24 bytes a packet when it opens the file: 30 KB of MP4 took 2 GB. So the
packet counts are added up from the raw bytes first. Bytes are searched instead of boxes parsed, because a
parser that differs from FFmpeg's in one corner could be led past a table; only the samples themselves (`mdat`)
are left out, where the same letters can occur by chance.

Uncompressed sound in QuickTime counts every sample as a packet. Such a count is long, but the file is too: a
packet takes room, so the bytes of the file bound an honest count.
"""

from collections.abc import Iterator

_COMPRESSED_INDEX = b"cmov"
_COUNT_OFFSETS = {b"stsz": 12, b"stz2": 12, b"trun": 8}
"""From the start of the box's name to its number of packets."""
_MAX_PACKETS_PER_BYTE = 4
"""Old ADPCM counts its unpacked samples, about two a byte and channel."""


def mp4_tables_fit(data: bytes, max_packets: int) -> bool:
    """False for an index that is compressed, or that names more than `max_packets` and more than the file can hold."""
    index = b"".join(_outside_samples(data))
    if _COMPRESSED_INDEX in index:
        return False
    packets = sum(sum(_counts(index, name, offset)) for name, offset in _COUNT_OFFSETS.items())
    return packets <= max(max_packets, _MAX_PACKETS_PER_BYTE * len(data))


def has_mp4_index(data: bytes) -> bool:
    """False for samples alone, without which no part of an MP4 can be read."""
    return any(b"moov" in box for box in _outside_samples(data))


def _outside_samples(data: bytes) -> Iterator[bytes]:
    """All top-level boxes but `mdat`; from a size that makes no sense on, everything."""
    start = 0
    while start < len(data):
        size, header = int.from_bytes(data[start : start + 4], "big"), 8
        if size == 0:
            size = len(data) - start
        elif size == 1:
            size, header = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        if size < header:
            yield data[start:]
            return
        if data[start + 4 : start + 8] != b"mdat":
            yield data[start : start + size]
        start += size


def _counts(index: bytes, name: bytes, offset: int) -> Iterator[int]:
    found = index.find(name)
    while found >= 0:
        yield int.from_bytes(index[found + offset : found + offset + 4], "big")
        found = index.find(name, found + len(name))
