"""Any clip, as the PCM that the codec takes. What cannot be used is refused with its remedy.

For a file of our own; what a caller sends goes through `read.read_clip`.
"""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import soxr
from numpy.typing import NDArray

from serve_app.audio.decoders import Block, decoded_blocks, too_long
from serve_app.errors import InvalidAudio
from serve_app.messages import SAMPLE_RATE_HZ

MIN_CLIP_SAMPLES = SAMPLE_RATE_HZ // 100
"""10 ms: less holds no sound that could condition anything."""
MIN_SAMPLE_RATE_HZ = 1_000
MAX_SAMPLE_RATE_HZ = 768_000
MAX_CHANNELS = 32

_FULL_SCALE = 32_767


def decode_clip(field: str, data: bytes, max_seconds: float) -> bytes:
    """Signed 16 bit little-endian mono PCM at 24 kHz: channels averaged, then resampled.

    Works block by block, so memory grows with `max_seconds` at 24 kHz, whatever the file claims or unpacks to.
    """
    pcm = b"".join(_pcm_blocks(field, decoded_blocks(field, data, max_seconds), max_seconds))
    if len(pcm) < 2 * MIN_CLIP_SAMPLES:
        raise InvalidAudio(field, "the audio is empty or shorter than 10 milliseconds; send a longer clip")
    return pcm


def _pcm_blocks(field: str, blocks: Iterator[Block], max_seconds: float) -> Iterator[bytes]:
    first = next(blocks, None)
    if first is None:
        return
    _check_sample_rate(field, first.sample_rate)
    resampler = soxr.ResampleStream(first.sample_rate, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
    num_frames = 0
    for block in chain((first,), blocks):
        if block.sample_rate != first.sample_rate:
            raise InvalidAudio(field, "the audio changes its sample rate; send a clip with one sample rate")
        num_frames += len(block.samples)
        if num_frames > max_seconds * block.sample_rate:
            raise too_long(field, max_seconds)
        yield _to_int16(resampler.resample_chunk(_mono(field, block.samples)))
    yield _to_int16(resampler.resample_chunk(np.empty(0, np.float32), last=True))


def _check_sample_rate(field: str, sample_rate: int) -> None:
    if not MIN_SAMPLE_RATE_HZ <= sample_rate <= MAX_SAMPLE_RATE_HZ:
        raise InvalidAudio(
            field, f"the audio's sample rate is outside {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} Hz; resample it"
        )


def _mono(field: str, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    if samples.shape[1] > MAX_CHANNELS:
        raise InvalidAudio(field, f"the audio has more than {MAX_CHANNELS} channels; mix it down to one")
    if not np.isfinite(samples).all():
        raise InvalidAudio(field, "the audio holds samples that are not finite numbers; export it as 16 bit PCM")
    # Bounded before the resampler too: the sums of its filter must not overflow on a float file's huge values.
    return samples.mean(axis=1, dtype=np.float64).clip(-1, 1).astype(np.float32)


def _to_int16(samples: NDArray[np.float32]) -> bytes:
    return np.rint(samples.clip(-1, 1) * _FULL_SCALE).astype("<i2").tobytes()
