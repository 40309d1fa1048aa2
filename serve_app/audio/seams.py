"""The silence between two utterances that are played one after the other."""

import numpy as np

from serve_app.audio.silence import silent_tail_samples
from serve_app.messages import FRAME_SAMPLES, SAMPLE_RATE_HZ

_RAMP_SAMPLES = SAMPLE_RATE_HZ // 200
"""5 ms: an utterance that ends above zero is led down to it, so that the seam does not click."""


def pause_after(tail: bytes, seconds: float) -> bytes:
    """Whole frames of silence that extend the silence at the end of `tail` to about `seconds`; may be empty.

    tail: the end of the utterance, signed 16 bit little-endian mono at 24 kHz.
    """
    samples = np.frombuffer(tail, dtype="<i2")
    silent = silent_tail_samples(samples)
    num_frames = round((seconds * SAMPLE_RATE_HZ - silent) / FRAME_SAMPLES)
    if num_frames <= 0 and silent:
        return b""
    return pause_of(max(1, num_frames), tail)


def pause_of(num_frames: int, tail: bytes) -> bytes:
    """So many frames of silence, to which the end of `tail` is led down."""
    pause = np.zeros(num_frames * FRAME_SAMPLES, dtype="<i2")
    if num_frames and tail:
        last = float(np.frombuffer(tail[-2:], dtype="<i2")[0])
        pause[:_RAMP_SAMPLES] = np.linspace(last, 0, _RAMP_SAMPLES).round()
    return pause.tobytes()
