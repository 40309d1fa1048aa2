"""AIFF, AU and CAF with true sizes in their headers, whatever the writer left there."""

import struct

_AU_SIZE = 8
_AU_HEAD = struct.Struct(">4sII")
_AU_UNKNOWN = 0xFFFFFFFF
_CAF_PACKETS_HEAD_BYTES = 24


def with_real_sizes(demuxer: str, data: bytes) -> bytes:
    """The same file, its samples reaching to the end where the header's size is zero, unknown or too large."""
    return {"au": _au, "aiff": _aiff, "caf": _caf}[demuxer](data)


def _au(data: bytes) -> bytes:
    if len(data) < 24 or not data.startswith(b".snd"):
        return data
    _, offset, size = _AU_HEAD.unpack_from(data)
    if 0 < size <= len(data) - offset:
        return data
    return _patched(data, _AU_SIZE, struct.pack(">I", _AU_UNKNOWN))


def _aiff(data: bytes) -> bytes:
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from(">4sI", data, position)
        rest = len(data) - position - 8
        if name == b"SSND":
            # 8 is an empty one: an offset and a block size come before the samples.
            if not 8 < size <= rest:
                data = _patched(data, position + 4, struct.pack(">I", rest))
            return _patched(data, 4, struct.pack(">I", len(data) - 8))
        position += 8 + size + (size & 1)
    return data


def _caf(data: bytes) -> bytes:
    position = 8
    is_alac = data[28:32] == b"alac"
    while position + 12 <= len(data):
        name, size = struct.unpack_from(">4sq", data, position)
        rest = len(data) - position - 12
        if name == b"data" and not 4 < size <= rest:
            data, size = _patched(data, position + 4, struct.pack(">q", rest)), rest
        if name == b"pakt" and is_alac and size >= _CAF_PACKETS_HEAD_BYTES:
            # FFmpeg cuts these frames off the end, but ALAC's last packet does not hold them.
            data = _patched(data, position + 12 + _CAF_PACKETS_HEAD_BYTES - 4, bytes(4))
        if size < 0:
            return data
        position += 12 + size
    return data


def _patched(data: bytes, position: int, value: bytes) -> bytes:
    return data[:position] + value + data[position + len(value) :]
