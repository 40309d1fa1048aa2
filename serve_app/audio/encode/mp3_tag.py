"""The frame that tells MP3 players how much of the beginning is the encoder's own."""

import struct

_ENCODER_DELAY = 576
"""LAME's, in samples, beside the 529 of every decoder, which players know."""
_HAS_BYTES = 2
_UNKNOWN = 0xFFFFFFFF
_PADDING_BIT = 0x02
_MPEG1_HZ = 32_000
_BIT_RATES_KBPS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""Of layer III, by the header's index; True is MPEG-1."""


def delay_tag(stream: bytes, rate_hz: int) -> bytes:
    """A silent frame for the front of `stream`, mono MP3 that begins with a frame.

    The number of frames is left out. The number of bytes is given as unknown: FFmpeg reads a tag with neither, but
    then plays the frame too.
    """
    is_mpeg1 = rate_hz >= _MPEG1_HZ
    header = bytes((stream[0], stream[1], stream[2] & ~_PADDING_BIT, stream[3]))
    bit_rate = 1000 * _BIT_RATES_KBPS[is_mpeg1][header[2] >> 4]
    num_bytes = (144 if is_mpeg1 else 72) * bit_rate // rate_hz
    side_info = bytes(17 if is_mpeg1 else 9)
    info = struct.pack(">4sII", b"Info", _HAS_BYTES, _UNKNOWN)
    # Name, method and low-pass, loudness (8 bytes), flags and bit rate; then 12 bits of delay and 12 of padding.
    lame = struct.pack(">9sBB8xBB", b"LAME3.100", 1, 0, 0, bit_rate // 1000) + (_ENCODER_DELAY << 12).to_bytes(3, "big")
    return (header + side_info + info + lame).ljust(num_bytes, b"\0")
