"""Robot speech on the codec's grid: every phoneme lasts one or two whole frames, every pitch period starts on the grid.

espeak-ng's own sound, moved in time a pitch period at a time (PSOLA: Moulines and Charpentier, 1990). The same sounds
then give the same codes, wherever in a sentence they stand; with espeak's own times hardly two frames would be alike.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import soxr
from numpy.typing import NDArray

from training.espeak import PITCH_HZ, Espeak, Phoneme

SAMPLE_RATE_HZ = 24_000
FRAME_SAMPLES = 1920
PERIOD_SAMPLES = (240, 120)
"""Of each voice, exactly, after resampling: 8 or 16 in a frame."""

_TWO_FRAMES = frozenset(
    {"0", "a", "aa", "aI", "aI@", "aI3", "aU", "aU@", "A:", "A@", "e@", "eI", "i:", "i@", "i@3", "o@", "oU", "O:", "O@"}
    | {"OI", "u:", "U@", "3:"}
)
_COMMA_FRAMES, _END_FRAMES = 3, 1
_STOPS = frozenset({"p", "t", "k", "b", "d", "g", "tS", "dZ", "t#", "t2", "d#", "?", "t;", "k;", "d;"})
_MAX_CLOSURE_MS = 80
"""Milliseconds of near-silence before a stop's burst, which belong to the stop."""
_SILENT = 0.06
_STEP = SAMPLE_RATE_HZ // 200


@dataclass(frozen=True, slots=True)
class Frame:
    """What is said in one frame: part `part` of `phoneme`, which stands at `place` (0 to 1) of its word."""

    phoneme: Phoneme
    part: int
    place: float


@dataclass(frozen=True, slots=True)
class Speech:
    wave: NDArray[np.float32]
    """`[len(frames) * FRAME_SAMPLES]`, 24 kHz mono."""
    frames: list[Frame]


def say(espeak: Espeak, text: str, voice: int) -> Speech:
    """`text` by voice 0 or 1."""
    raw, phonemes = espeak.speak(text, voice)
    # A little off the true rate, so that the pitch comes to exactly 100 or 200 Hz.
    rate = PITCH_HZ[voice] * PERIOD_SAMPLES[voice]
    wave = soxr.resample(raw, espeak.sample_rate, rate).astype(np.float32)
    scale = rate / espeak.sample_rate
    kept = _one_pause_in_a_row([replace(phoneme, start=int(phoneme.start * scale)) for phoneme in phonemes])
    counts = [_num_frames(phoneme, last=phoneme is kept[-1]) for phoneme in kept]
    starts = _starts(kept, wave)
    moved = _move(wave, [*starts, len(wave)], np.cumsum([0, *counts]) * FRAME_SAMPLES, PERIOD_SAMPLES[voice])
    return Speech(moved, list(_frames(kept, counts)))


def _one_pause_in_a_row(phonemes: Sequence[Phoneme]) -> list[Phoneme]:
    kept: list[Phoneme] = []
    for phoneme in phonemes:
        if not phoneme.is_pause or (kept and not kept[-1].is_pause):
            kept.append(phoneme)
    return kept


def _num_frames(phoneme: Phoneme, last: bool) -> int:
    if phoneme.is_pause:
        return _END_FRAMES if last else _COMMA_FRAMES
    return 2 if phoneme.name in _TWO_FRAMES else 1


def _frames(phonemes: Sequence[Phoneme], counts: Sequence[int]) -> Iterator[Frame]:
    for _, group in groupby(
        zip(phonemes, counts, strict=True), key=lambda pair: (pair[0].word_start, pair[0].is_pause)
    ):
        word = list(group)
        for number, (phoneme, count) in enumerate(word):
            for part in range(count):
                yield Frame(phoneme, part, (number + 0.5) / len(word))


def _starts(phonemes: Sequence[Phoneme], wave: NDArray[np.float32]) -> list[int]:
    """espeak places a stop at its burst; the silence before it is taken from the sound before and given to the stop."""
    treble = np.abs(np.diff(wave, prepend=0))
    loudness = np.append(treble[: len(treble) // _STEP * _STEP].reshape(-1, _STEP).mean(1), 0)
    silent = loudness < _SILENT * loudness.max()
    latest = (len(loudness) - 1) * _STEP
    starts = []
    for phoneme in phonemes:
        start = min(phoneme.start, latest)
        earliest = start - SAMPLE_RATE_HZ * _MAX_CLOSURE_MS // 1000
        while phoneme.name in _STOPS and start - _STEP > max(0, earliest) and silent[start // _STEP - 1]:
            start -= _STEP
        starts.append(start)
    return starts


def _move(
    wave: NDArray[np.float32], sources: Sequence[int], targets: NDArray[np.int64], period: int
) -> NDArray[np.float32]:
    """The sound at `sources` goes to `targets`, that between them in proportion, in grains of two periods."""
    total = int(targets[-1])
    wanted = np.arange(total // period) * period + period // 2
    margin = 4 * period
    padded = np.pad(wave, margin)
    at = np.round(np.interp(wanted, targets, sources)).astype(int) + margin
    pulses = at + _to_next_pulse(padded, at, period)
    grain = np.arange(-period, period)
    grains = padded[np.clip(pulses[:, None] + grain, 0, len(padded) - 1)] * np.hanning(2 * period + 1)[:-1]
    overlapped = np.zeros((len(grains) + 1, period))
    overlapped[:-1] += grains[:, :period]
    overlapped[1:] += grains[:, period:]
    return overlapped.reshape(-1)[period // 2 :][:total].astype(np.float32)


def _to_next_pulse(wave: NDArray[np.float32], at: NDArray[np.int64], period: int) -> NDArray[np.int64]:
    """How far from each place the nearest pulse is: the loudest phase of the four periods around it."""
    envelope = np.convolve(np.abs(wave), np.hanning(period // 8 + 1), "same")
    around = envelope[np.clip(at[:, None] + np.arange(-2 * period, 2 * period), 0, len(envelope) - 1)]
    weights = np.array([0.5, 1, 1, 0.5])[:, None]
    phase = (around.reshape(len(at), 4, period) * weights).sum(1).argmax(1)
    return np.where(phase >= period // 2, phase - period, phase)
