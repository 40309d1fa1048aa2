"""A stand-in for the codec, to measure the server around it. It needs no torch and produces no speech."""

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from serve_app.messages import FRAME_SAMPLES, Codes
from serve_app.settings import StandInSettings

_CODEBOOK_SIZE = 2048
_LOWEST_PERIODS = 16
_NUM_TONES = 32
_AMPLITUDE = 8000


class StandInSlots:
    """Like `decoder.SlotDecoder`, but each frame is a tone for its first code, from 200 Hz in steps of 12.5 Hz.

    A frame holds whole periods of its tone, so that frames join without a click.
    """

    frames_per_call = 1

    def __init__(self, settings: StandInSettings, num_slots: int, sleep: Callable[[float], None] = time.sleep) -> None:
        self._seconds_per_tick = settings.decode_ms_per_tick / 1000
        self._free = list(reversed(range(num_slots)))
        # Sleeping holds neither the interpreter's lock nor a core, like waiting for a GPU.
        self._sleep = sleep
        self._tones = _tones()

    def open(self) -> int | None:
        return self._free.pop() if self._free else None

    def close(self, slot: int) -> None:
        assert slot not in self._free, f"slot {slot} is not open"
        self._free.append(slot)

    def decode(self, frames: Mapping[int, NDArray[np.integer]]) -> dict[int, NDArray[np.int16]]:
        if not frames:
            return {}
        if self._seconds_per_tick:
            self._sleep(self._seconds_per_tick * max(map(len, frames.values())))
        return {slot: self._tones[part[:, 0].astype(np.int64) % _NUM_TONES].ravel() for slot, part in frames.items()}

    def warm_up(self) -> None:
        pass


class StandInClips:
    """Like `encoder.ClipEncoder`. The codes depend on a clip's content alone, and number as its frames."""

    def __init__(self, settings: StandInSettings) -> None:
        self.num_hits = 0
        self._num_codebooks = settings.num_codebooks

    def encode_batch(self, clips: Sequence[bytes], owners: Sequence[str] = ()) -> list[Codes]:
        return [self._encode(clip) for clip in clips]

    def _encode(self, clip: bytes) -> Codes:
        assert clip, "an empty clip has no codes"
        num_frames = -(-len(clip) // (2 * FRAME_SAMPLES))
        draw = np.random.default_rng(list(sha256(clip).digest()))
        return Codes.from_array(draw.integers(1, _CODEBOOK_SIZE, (num_frames, self._num_codebooks)))


def _tones() -> NDArray[np.int16]:
    """[tones, samples of a frame]"""
    periods = _LOWEST_PERIODS + np.arange(_NUM_TONES)[:, None]
    phase = 2 * np.pi * periods * np.arange(FRAME_SAMPLES) / FRAME_SAMPLES
    return (_AMPLITUDE * np.sin(phase)).round().astype(np.int16)
