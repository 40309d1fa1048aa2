"""Opus between replicas: packets of 20 ms. A frame is four of them, and their sound is as long as what went in.

It comes 2.5 ms later than it was fed, and the last 2.5 ms of an utterance are not heard. Neither end is cut off,
because all that follows counts in whole frames.
"""

from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np

from serve_app.messages import SAMPLE_RATE_HZ

_PACKET_SAMPLES = SAMPLE_RATE_HZ // 50
# Its own low-delay mode: the other would be 6.5 ms late.
_OPTIONS = {"application": "lowdelay", "frame_duration": "20", "compression_level": "5"}


class OpusPackets:
    """Encodes the sound of one utterance: signed 16 bit mono PCM at 24 kHz, whole frames at a time."""

    def __init__(self, bits_per_second: int) -> None:
        self._codec = av.AudioCodecContext.create("libopus", "w")
        self._codec.sample_rate = SAMPLE_RATE_HZ
        self._codec.layout = "mono"
        self._codec.format = "s16"
        self._codec.bit_rate = bits_per_second
        self._codec.time_base = Fraction(1, SAMPLE_RATE_HZ)
        self._codec.options = _OPTIONS
        self._num_samples = 0

    def encode(self, pcm: bytes) -> tuple[bytes, ...]:
        packets: list[bytes] = []
        for samples in np.frombuffer(pcm, np.int16).reshape(-1, 1, _PACKET_SAMPLES):
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, self._num_samples
            self._num_samples += _PACKET_SAMPLES
            packets += map(bytes, self._codec.encode(frame))
        return tuple(packets)


class OpusSound:
    """Decodes the packets of one `OpusPackets`, in their order."""

    def __init__(self) -> None:
        self._codec = av.AudioCodecContext.create("libopus", "r")
        self._codec.layout = "mono"

    def decode(self, packets: Iterable[bytes]) -> bytes:
        # FFmpeg decodes at 48 kHz. There is nothing above 12 kHz, so every second sample is the same sound at 24 kHz.
        frames = [frame.to_ndarray()[0, ::2] for packet in packets for frame in self._codec.decode(av.Packet(packet))]
        return np.concatenate(frames).tobytes() if frames else b""
