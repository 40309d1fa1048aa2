"""Finds the first whole frame of an MP3 or a bare AAC stream, as a recorder that was started in its middle sends it."""

import re

_SYNC = re.compile(rb"\xff[\xe2-\xff]|\xff[\xf0\xf1\xf8\xf9]")
_FRAMES_IN_A_ROW = 3
_MAX_CANDIDATES = 20_000

_MPEG1_RATES_HZ = (44_100, 48_000, 32_000)
_KBITS = {  # (MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def first_frame(data: bytes) -> tuple[str, int] | None:
    """FFmpeg's name of the stream and where its first frame begins: one that others of its kind follow directly."""
    for number, match in enumerate(_SYNC.finditer(data)):
        if number == _MAX_CANDIDATES:
            return None
        if demuxer := _stream_at(data, match.start()):
            return demuxer, match.start()
    return None


def _stream_at(data: bytes, position: int) -> str | None:
    first = data[position : position + 4]
    for _ in range(_FRAMES_IN_A_ROW):
        head = data[position : position + 6]
        size = _frame_bytes(head)
        # Bit rate and padding change from frame to frame; version, layer and sample rate do not.
        if not size or head[1] != first[1] or (head[2] ^ first[2]) & 0x0C:
            return None
        position += size
    return "mp3" if first[1] & 0x06 else "aac"


def _frame_bytes(head: bytes) -> int:
    """0 for no frame."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    if head[1] & 0xF6 == 0xF0:
        return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kbits, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or kbits in (0, 15) or rate == 3:
        return 0
    rate_hz = _MPEG1_RATES_HZ[rate] >> {3: 0, 2: 1, 0: 2}[version]
    bits_per_second = 1000 * _KBITS[version == 3, layer][kbits - 1]
    if layer == 1:
        return (12 * bits_per_second // rate_hz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits_per_second // rate_hz + padding
