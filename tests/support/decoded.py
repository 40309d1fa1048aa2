"""What a player hears of an encoded answer, by FFmpeg."""

import io

import av
import numpy as np
import soxr
from numpy.typing import NDArray

_BARE = {"mulaw": 8000, "alaw": 8000}


def decoded(name: str, data: bytes, rate_hz: int = 24_000) -> NDArray[np.float32]:
    """The samples at `rate_hz`, full scale 1, with the encoder's delay cut where the data declares it."""
    if name == "pcm":
        return np.frombuffer(data, "<i2").astype(np.float32) / 32_768
    bare = {"format": name, "options": {"sample_rate": str(_BARE[name])}} if name in _BARE else {}
    with av.open(io.BytesIO(data), **bare) as file:
        stream = file.streams.audio[0]
        assert stream.codec_context.layout.nb_channels == 1
        frames = [np.array(frame.to_ndarray().reshape(-1)) for frame in file.decode(stream)]
    samples = np.concatenate(frames)
    if samples.dtype.kind == "i":
        samples = samples / np.float32(np.iinfo(samples.dtype).max + 1)
    if stream.rate != rate_hz:
        samples = soxr.resample(samples, stream.rate, rate_hz)
    return samples.astype(np.float32)
