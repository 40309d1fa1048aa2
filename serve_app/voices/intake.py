"""Makes a clip that sets a voice of a recording: silence cut off, the best stretch chosen, at one loudness."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from serve_app.audio.clip import Recording
from serve_app.audio.voice_levels import STEP_SAMPLES, Levels, pitch_hz
from serve_app.errors import AudioTooLong, InvalidAudio
from serve_app.messages import SAMPLE_RATE_HZ
from serve_app.settings import VoiceSettings
from serve_app.voices.stretches import best_stretch

LOUDNESS_DBFS = -23.0
_PEAK = 0.89
"""-1 dB: the loudest sample after normalisation."""
_MARGIN_STEPS = 5
"""100 ms are kept before and after the speech."""
_NOISY_DB = 20.0
_STEPS_A_SECOND = SAMPLE_RATE_HZ // STEP_SAMPLES


@dataclass(frozen=True, slots=True)
class TakenClip:
    """`pcm`: signed 16 bit little-endian mono at 24 kHz. `text`: the words in it."""

    text: str
    pcm: bytes
    report: dict[str, object]
    """What was measured, and `notices` in words."""


def take_in(number: int, text: str, recording: Recording, settings: VoiceSettings) -> TakenClip:
    """The clip to keep. Raises InvalidAudio and AudioTooLong at `clips[N].audio`, by the length of its speech."""
    field = f"clips[{number}].audio"
    samples = np.frombuffer(recording.pcm, "<i2")
    levels = Levels(samples)
    start, end = levels.speech_steps()
    seconds = (end - start) / _STEPS_A_SECOND
    if seconds < settings.min_seconds:
        raise InvalidAudio(
            field, f"has {seconds:.1f} s of speech, at least {settings.min_seconds:g} s are needed: send a longer clip"
        )
    if seconds > settings.max_seconds:
        raise AudioTooLong(
            field, f"has {seconds:.1f} s of speech, at most {settings.max_seconds:g} s are allowed: cut it shorter"
        )
    notices = list(recording.notices)
    if seconds > settings.best_seconds:
        stretch = best_stretch(text, levels, settings.min_seconds, settings.best_seconds)
        if stretch is None:
            notices.append(
                "the clip is kept whole: no pauses in it match the ends of the transcript's sentences; a clip of "
                f"at most {settings.best_seconds:g} s is followed better"
            )
        else:
            text, start, end = stretch.text, stretch.start, stretch.end
            notices.append(
                f"of {seconds:.1f} s the best stretch is kept: {start / _STEPS_A_SECOND:.1f} to "
                f"{end / _STEPS_A_SECOND:.1f} s"
            )
    first, last = max(0, start - _MARGIN_STEPS) * STEP_SAMPLES, (end + _MARGIN_STEPS) * STEP_SAMPLES
    kept = _normalised(samples[first:last], levels.loudness_dbfs)
    if levels.signal_to_noise_db < _NOISY_DB:
        notices.append(
            f"the audio is noisy (speech is {levels.signal_to_noise_db:.0f} dB above the noise); record it in a "
            "quieter place, since the voice keeps the noise"
        )
    pitch = pitch_hz(kept)
    report: dict[str, object] = {
        "seconds": round(len(kept) / SAMPLE_RATE_HZ, 2),
        "loudness_dbfs": round(levels.loudness_dbfs, 1),
        "signal_to_noise_db": round(levels.signal_to_noise_db, 1),
        "pitch_hz": None if pitch is None else round(pitch, 1),
        "notices": notices,
    }
    return TakenClip(text, kept.astype("<i2").tobytes(), report)


def _normalised(samples: NDArray[np.int16], loudness_dbfs: float) -> NDArray[np.int16]:
    """At `LOUDNESS_DBFS`, or as near to it as its peaks allow."""
    peak = float(np.abs(samples.astype(np.float64)).max()) / 32_768
    gain = min(10 ** ((LOUDNESS_DBFS - loudness_dbfs) / 20), _PEAK / peak)
    return np.rint(samples * gain).astype(np.int16)
