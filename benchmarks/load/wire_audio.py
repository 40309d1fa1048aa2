"""Tells the audio in an answer's bytes from what stands around it, however the reads split them."""

import struct
from typing import Protocol

PCM_RATE_HZ = 24_000
"""What speech APIs mean by "pcm": signed 16 bit, mono, at this rate."""
_SIZES_THAT_SAY_UNKNOWN = (0, 0x7FFF0000)
"""A stream's header cannot know its length: it says 0, or something near the largest number."""


class NotWav(ValueError):
    """The bytes do not begin as a WAV file does."""


class WireAudio(Protocol):
    bytes_per_second: int

    def feed(self, data: bytes) -> bytes:
        """The audio in these bytes, which follow the ones fed before. Raises NotWav."""
        ...

    @property
    def missing_bytes(self) -> int:
        """Of audio that was promised and has not come."""
        ...


class RawPcm:
    bytes_per_second = PCM_RATE_HZ * 2
    missing_bytes = 0

    def feed(self, data: bytes) -> bytes:
        return data


class Wav:
    """Everything up to the data chunk is header, 44 bytes or more; the rate is what the header says."""

    def __init__(self) -> None:
        self.bytes_per_second = 0
        self._header: bytearray | None = bytearray()
        self._left: int | None = None
        """Bytes of audio to come, where the header knows."""

    @property
    def missing_bytes(self) -> int:
        return self._left or 0

    def feed(self, data: bytes) -> bytes:
        if self._header is None:
            return self._audio(data)
        self._header += data
        start = self._parse(self._header)
        if start is None:
            return b""
        rest, self._header = bytes(self._header[start:]), None
        return self._audio(rest)

    def _audio(self, data: bytes) -> bytes:
        if self._left is None:
            return data
        audio = data[: self._left]
        self._left -= len(audio)
        return audio

    def _parse(self, header: bytearray) -> int | None:
        """Where the audio starts, or None as long as the header is not whole."""
        if not b"RIFF".startswith(header[:4]) or (len(header) >= 12 and header[8:12] != b"WAVE"):
            raise NotWav(f"begins with {bytes(header[:12])!r}")
        at = 12
        while len(header) >= at + 8:
            name, size = struct.unpack_from("<4sI", header, at)
            if name == b"data":
                return self._start_audio(at + 8, size)
            if name == b"fmt " and len(header) >= at + 24:
                [self.bytes_per_second] = struct.unpack_from("<I", header, at + 16)
            at += 8 + size + size % 2
        return None

    def _start_audio(self, at: int, size: int) -> int:
        if not self.bytes_per_second:
            raise NotWav("has no format before its data")
        lowest, highest = _SIZES_THAT_SAY_UNKNOWN
        self._left = size if lowest < size < highest else None
        return at
