"""Any recording, as the PCM that the codec takes. What cannot be used is refused with its remedy.

For a file of our own; what a caller sends goes through `read.read_recording`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from itertools import groupby

import numpy as np
import soxr
from numpy.typing import NDArray

from serve_app.audio.decoders import Block, Losses, decoded_blocks, not_audio, too_long
from serve_app.audio.levels import clipped_frames, is_silent, level_notices
from serve_app.audio.mixing import ChannelEnergies
from serve_app.errors import InvalidAudio
from serve_app.messages import SAMPLE_RATE_HZ

MIN_CLIP_SAMPLES = SAMPLE_RATE_HZ // 100
"""10 ms: less holds no sound that could condition anything."""
MIN_SAMPLE_RATE_HZ = 1_000
MAX_SAMPLE_RATE_HZ = 768_000
MAX_CHANNELS = 32

_FULL_SCALE = 32_767
_ROUNDING_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class Recording:
    """A clip that can be used, and what its sender should know about it."""

    pcm: bytes
    """Signed 16 bit little-endian mono at 24 kHz."""
    notices: tuple[str, ...] = ()
    """Each a warning with its remedy, in words."""


def decode_clip(field: str, data: bytes, max_seconds: float) -> bytes:
    """The PCM of `decode_recording`."""
    return decode_recording(field, data, max_seconds).pcm


def decode_recording(field: str, data: bytes, max_seconds: float) -> Recording:
    """One channel, resampled. The channels' mean, unless they cancel each other or some hold nothing.

    Works block by block, so memory grows with `max_seconds` at 24 kHz, whatever the file claims or unpacks to.
    """
    reading = _Reading(field, max_seconds)
    pcm = reading.pcm(data, lambda _: None)
    weights = [stretch.better_weights() for stretch in reading.stretches]
    if any(of_stretch is not None for of_stretch in weights):
        # Only the whole recording tells which mix is right, and keeping all channels would take 32 times the memory.
        reading = _Reading(field, max_seconds)
        pcm = reading.pcm(data, lambda number: weights[number])
    return _checked(field, pcm, reading)


def _checked(field: str, pcm: bytes, reading: "_Reading") -> Recording:
    if reading.losses.pieces > reading.num_blocks:
        raise not_audio(field)
    if len(pcm) < 2 * MIN_CLIP_SAMPLES:
        raise InvalidAudio(field, "the audio is empty or shorter than 10 milliseconds; send a longer clip")
    samples = np.frombuffer(pcm, "<i2")
    if is_silent(samples):
        raise InvalidAudio(
            field, "the audio holds no audible sound (all of it is below -60 dBFS); send a clip in which someone speaks"
        )
    notices = level_notices(samples, reading.num_clipped, reading.num_frames)
    if reading.losses.pieces:
        notices += ("the audio is damaged, and some of it was left out; send an intact file",)
    return Recording(pcm, notices)


_Weights = Callable[[int], NDArray[np.float64] | None]
"""Of the channels in the stretch of that number; None for their mean."""


@dataclass(slots=True)
class _Reading:
    """One pass over a file, and what it found."""

    field: str
    max_seconds: float
    stretches: list[ChannelEnergies] = dataclass_field(default_factory=list)
    num_blocks: int = 0
    num_frames: int = 0
    num_clipped: int = 0
    losses: Losses = dataclass_field(default_factory=Losses)
    seconds: float = 0.0

    def pcm(self, data: bytes, weights: _Weights) -> bytes:
        blocks = decoded_blocks(self.field, data, self.max_seconds, self.losses)
        setups = groupby(blocks, key=lambda block: (block.sample_rate, block.samples.shape[1]))
        pieces: list[bytes] = []
        for number, ((sample_rate, channels), stretch) in enumerate(setups):
            self._check_setup(sample_rate, channels)
            self.stretches.append(ChannelEnergies(channels))
            pieces += self._stretch(sample_rate, stretch, weights(number))
        return b"".join(pieces)[: 2 * round(self.max_seconds * SAMPLE_RATE_HZ + 1)]

    def _stretch(
        self, sample_rate: int, blocks: Iterator[Block], weights: NDArray[np.float64] | None
    ) -> Iterator[bytes]:
        """Blocks of one sample rate and number of channels. A joined file may have several such stretches."""
        resampler = soxr.ResampleStream(sample_rate, SAMPLE_RATE_HZ, 1, dtype="float32", quality="HQ")
        for block in blocks:
            samples = self._counted(block)
            yield _to_int16(resampler.resample_chunk(_mono(samples, weights)))
        yield _to_int16(resampler.resample_chunk(np.empty(0, np.float32), last=True))

    def _check_setup(self, sample_rate: int, channels: int) -> None:
        if not MIN_SAMPLE_RATE_HZ <= sample_rate <= MAX_SAMPLE_RATE_HZ:
            raise InvalidAudio(
                self.field,
                f"the audio's sample rate is outside {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} Hz; resample it",
            )
        if channels > MAX_CHANNELS:
            raise InvalidAudio(self.field, f"the audio has more than {MAX_CHANNELS} channels; mix it down to one")

    def _counted(self, block: Block) -> NDArray[np.float64]:
        self.seconds += len(block.samples) / block.sample_rate
        if self.seconds > self.max_seconds + _ROUNDING_SECONDS:
            raise too_long(self.field, self.max_seconds)
        samples = block.samples.astype(np.float64)
        peak = float(max(samples.max(initial=0), -samples.min(initial=0)))
        if not np.isfinite(samples.sum()):
            raise InvalidAudio(
                self.field, "the audio holds samples that are not finite numbers; export it as 16 bit PCM"
            )
        self.stretches[-1].add(samples)
        self.num_blocks += 1
        self.num_frames += len(block.samples)
        self.num_clipped += clipped_frames(samples, peak)
        return samples


def _mono(samples: NDArray[np.float64], weights: NDArray[np.float64] | None) -> NDArray[np.float32]:
    channels = samples.shape[1]
    # Ten times as fast as a mean over so few columns.
    mixed = samples @ (np.full(channels, 1 / channels) if weights is None else weights)
    # Bounded before the resampler too: the sums of its filter must not overflow on a float file's huge values.
    return mixed.clip(-1, 1).astype(np.float32)


def _to_int16(samples: NDArray[np.float32]) -> bytes:
    return np.rint(samples.clip(-1, 1) * _FULL_SCALE).astype("<i2").tobytes()
