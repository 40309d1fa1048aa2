"""What FFmpeg encodes: MP3, Opus in Ogg, FLAC, AAC in ADTS, µ-law and A-law."""

from dataclasses import dataclass, field
from io import BytesIO

import av
import numpy as np

from serve_app.audio.encode.mp3_tag import delay_tag


@dataclass(frozen=True, slots=True)
class _Recipe:
    container: str
    codec: str
    sample_format: str
    bit_rates: tuple[int, int, int] | None = None
    """Up to 12 kHz, up to 24 kHz, and above."""
    codec_options: dict[str, str] = field(default_factory=dict)
    container_options: dict[str, str] = field(default_factory=dict)
    stream_options: dict[str, str] = field(default_factory=dict)
    """Of the container, where nothing can be written later at an earlier place."""

    def bit_rate(self, rate_hz: int) -> int | None:
        if self.bit_rates is None:
            return None
        return self.bit_rates[0 if rate_hz <= 12_000 else 1 if rate_hz <= 24_000 else 2]


_RECIPES = {
    "mp3": _Recipe(
        "mp3", "libmp3lame", "s16p", (32_000, 64_000, 96_000),
        {"compression_level": "7"}, {"id3v2_version": "0"}, {"write_xing": "0"},
    ),
    # A page for each packet: FFmpeg would wait for a second of speech.
    "opus": _Recipe("ogg", "libopus", "s16", (24_000, 48_000, 48_000), {"compression_level": "5"},
                    stream_options={"page_duration": "20000"}),
    "flac": _Recipe("flac", "flac", "s16", container_options={"metadata_header_padding": "0"}),
    "aac": _Recipe("adts", "aac", "fltp", (32_000, 64_000, 96_000), {"aac_coder": "fast"}),
    "mulaw": _Recipe("mulaw", "pcm_mulaw", "s16"),
    "alaw": _Recipe("alaw", "pcm_alaw", "s16"),
}  # fmt: skip
_FLAC_BLOCKS_PER_SECOND = 50
"""FFmpeg would take 9, and a listener wait for the first."""
_FULL_SCALE = 32_768


def is_muxed(name: str) -> bool:
    return name in _RECIPES


class _Pipe:
    """Takes what the container writes. It cannot seek, so the container leaves nothing to be written later."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


class Muxed:
    """An `Encoder` by FFmpeg. Opus and FLAC streams hold exactly what was fed.

    MP3 declares its delay, and its last frame is filled up with silence. AAC cannot declare its delay of 1024 samples.
    """

    def __init__(self, name: str, rate_hz: int, bit_rate: int | None = None) -> None:
        self._pipe = _Pipe()
        self._codec = _Codec(name, rate_hz, bit_rate, self._pipe, is_stream=True)
        self._is_tag_due = name == "mp3"
        self._rate_hz = rate_hz

    @classmethod
    def file(cls, name: str, rate_hz: int, pcm: bytes, bit_rate: int | None = None) -> bytes:
        """A complete file, with its length in its header where the format has a place for it."""
        file = BytesIO()
        codec = _Codec(name, rate_hz, bit_rate, file, is_stream=False)
        codec.feed(pcm)
        codec.finish()
        return file.getvalue()

    def feed(self, pcm: bytes) -> bytes:
        self._codec.feed(pcm)
        return self._taken()

    def finish(self) -> bytes:
        self._codec.finish()
        return self._taken()

    def _taken(self) -> bytes:
        data = self._pipe.take()
        if data and self._is_tag_due:
            self._is_tag_due = False
            data = delay_tag(data, self._rate_hz) + data
        return data


class _Codec:
    def __init__(self, name: str, rate_hz: int, bit_rate: int | None, sink: _Pipe | BytesIO, is_stream: bool) -> None:
        recipe = _RECIPES[name]
        options = recipe.container_options | ({"flush_packets": "1", **recipe.stream_options} if is_stream else {})
        self._container = av.open(sink, "w", format=recipe.container, options=options)
        codec_options = dict(recipe.codec_options)
        if name == "flac":
            codec_options["frame_size"] = str(rate_hz // _FLAC_BLOCKS_PER_SECOND)
        stream = self._container.add_stream(recipe.codec, rate=rate_hz, layout="mono", options=codec_options)
        assert isinstance(stream, av.AudioStream)
        self._stream = stream
        self._stream.codec_context.format = av.AudioFormat(recipe.sample_format)
        if (bit_rate := bit_rate or recipe.bit_rate(rate_hz)) is not None:
            self._stream.codec_context.bit_rate = bit_rate
        self._sample_format = recipe.sample_format
        self._rate_hz = rate_hz
        self._num_fed = 0

    def feed(self, pcm: bytes) -> None:
        if not pcm:
            return
        samples = np.frombuffer(pcm, "<i2").reshape(1, -1)
        if self._sample_format == "fltp":
            samples = samples.astype(np.float32) / np.float32(_FULL_SCALE)
        frame = av.AudioFrame.from_ndarray(samples, format=self._sample_format, layout="mono")
        frame.sample_rate, frame.pts = self._rate_hz, self._num_fed
        self._num_fed += frame.samples
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
