"""Decoded frames as interleaved floats."""

import av
import numpy as np
from numpy.typing import NDArray

_HALF_RANGES = {"u8": 1 << 7, "s16": 1 << 15, "s32": 1 << 31}


class Packer:
    """Keeps a converter for the planar frames of one stream."""

    def __init__(self) -> None:
        self._setup: tuple[object, ...] | None = None
        self._converter = av.AudioResampler(format="flt")

    def samples(self, frame: av.AudioFrame) -> NDArray[np.float32]:
        """[frames, channels]; full scale is 1."""
        channels = frame.layout.nb_channels
        if frame.format.is_packed or channels == 1:
            return self._from_packed(frame).reshape(-1, channels)
        # PyAV counts the planes of a planar frame wrongly from 8 channels up and crashes, so FFmpeg packs them.
        setup = (frame.format.name, frame.layout, frame.sample_rate)
        if setup != self._setup:  # AAC may change its channels after the first frames; a converter takes one setup
            self._setup, self._converter = setup, av.AudioResampler(format="flt")
        packed = [piece.to_ndarray().reshape(-1, channels) for piece in self._converter.resample(frame)]
        return np.concatenate([np.empty((0, channels), np.float32), *packed], dtype=np.float32)

    def _from_packed(self, frame: av.AudioFrame) -> NDArray[np.float32]:
        if frame.format.name.startswith("s64"):
            size = frame.samples * frame.layout.nb_channels
            values = np.frombuffer(bytes(frame.planes[0]), np.int64, size)
            return (values / 2.0**63).astype(np.float32)
        values = frame.to_ndarray()
        with np.errstate(over="ignore"):  # infinite in float is refused later
            floats = values.astype(np.float32)
        half_range = _HALF_RANGES.get(frame.format.name.removesuffix("p"))
        if half_range is None:
            return floats
        if values.dtype == np.uint8:
            floats -= half_range
        floats /= half_range
        return floats
