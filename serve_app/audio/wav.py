"""WAV around PCM: signed 16 bit little-endian, mono, 24 kHz unless another rate is named."""

import struct

from serve_app.messages import SAMPLE_RATE_HZ

_BYTES_PER_SAMPLE = 2
_UNKNOWN_SIZE = 0xFFFFFFFF
_PCM_FORMAT = 1
_LAYOUT = struct.Struct("<4sI4s4sIHHIIHH4sI")
_SIZE_BEFORE_DATA = _LAYOUT.size - 8
"""What the RIFF size counts besides the samples."""


def wav_header(num_samples: int | None, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """44 bytes. None is a stream whose length is not known yet: players read it to its end."""
    data_size = _UNKNOWN_SIZE if num_samples is None else num_samples * _BYTES_PER_SAMPLE
    riff_size = _UNKNOWN_SIZE if num_samples is None else data_size + _SIZE_BEFORE_DATA
    byte_rate = rate_hz * _BYTES_PER_SAMPLE
    return _LAYOUT.pack(
        b"RIFF", riff_size, b"WAVE",
        b"fmt ", 16, _PCM_FORMAT, 1, rate_hz, byte_rate, _BYTES_PER_SAMPLE, 8 * _BYTES_PER_SAMPLE,
        b"data", data_size,
    )  # fmt: skip


def wav_file(pcm: bytes, rate_hz: int = SAMPLE_RATE_HZ) -> bytes:
    """A complete file of whole samples."""
    assert len(pcm) % _BYTES_PER_SAMPLE == 0, "PCM holds whole samples"
    return wav_header(len(pcm) // _BYTES_PER_SAMPLE, rate_hz) + pcm
