"""Speech faster or slower at the same pitch, by FFmpeg's `atempo`."""

import av
import numpy as np
from av.error import BlockingIOError as NothingYet
from av.error import EOFError as Ended
from av.filter import Graph

from serve_app.messages import SAMPLE_RATE_HZ

_SLOWEST = 0.5
"""Of one `atempo`. Two of them are slower."""


class Tempo:
    def __init__(self, speed: float) -> None:
        """`speed`: from 0.25 to 100; 2 is twice as fast."""
        self._graph = Graph()
        source = self._graph.add_abuffer(sample_rate=SAMPLE_RATE_HZ, format="s16", layout="mono")
        steps = [speed] if speed >= _SLOWEST else [speed**0.5] * 2
        filters = [self._graph.add("atempo", f"{step:.6f}") for step in steps]
        self._graph.link_nodes(source, *filters, self._graph.add("abuffersink")).configure()
        self._num_fed = 0

    def feed(self, pcm: bytes) -> bytes:
        if not pcm:
            return b""
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2").reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, self._num_fed
        self._num_fed += frame.samples
        self._graph.push(frame)
        return self._ready()

    def finish(self) -> bytes:
        if not self._num_fed:  # an empty stream has nothing to stretch, which the filter takes for a fault
            return b""
        self._graph.push(None)
        return self._ready()

    def _ready(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            try:
                frame = self._graph.pull()
            except (NothingYet, Ended):
                return b"".join(pieces)
            assert isinstance(frame, av.AudioFrame)
            pieces.append(frame.to_ndarray().tobytes())
