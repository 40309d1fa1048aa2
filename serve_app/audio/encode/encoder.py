"""From PCM as it is spoken to a format, a sample rate and a tempo, piece by piece."""

from collections.abc import Sequence
from typing import Protocol

from serve_app.audio.encode.formats import WAV, Coding
from serve_app.audio.encode.muxed import Muxed, is_muxed
from serve_app.audio.encode.resample import Resampler
from serve_app.audio.encode.tempo import Tempo
from serve_app.audio.wav import wav_file, wav_header
from serve_app.messages import SAMPLE_RATE_HZ


class Encoder(Protocol):
    """Takes whole samples, signed 16 bit mono. All that it returned is one stream, without gap or lost tail."""

    def feed(self, pcm: bytes) -> bytes:
        """What can be sent by now; often less than went in. `pcm` may be empty: a header then comes alone."""
        ...

    def finish(self) -> bytes:
        """The rest. Called once, and nothing after it."""
        ...


def open_encoder(coding: Coding) -> Encoder:
    """Encodes 24 kHz PCM while it is made."""
    stages = _changes(coding)
    if is_muxed(coding.format.name):
        stages.append(Muxed(coding.format.name, coding.rate_hz, coding.bit_rate))
    elif coding.format is WAV:
        stages.append(_WavStream(coding.rate_hz))
    return stages[0] if len(stages) == 1 else _Chain(stages)


def encode_whole(pcm: bytes, coding: Coding) -> bytes:
    """A complete file. Its header says how long it is, where the format can."""
    changes = _Chain(_changes(coding))
    pcm = changes.feed(pcm) + changes.finish()
    if coding.format is WAV:
        return wav_file(pcm, coding.rate_hz)
    if is_muxed(coding.format.name):
        return Muxed.file(coding.format.name, coding.rate_hz, pcm, coding.bit_rate)
    return pcm


def _changes(coding: Coding) -> list[Encoder]:
    """From PCM as it is spoken to PCM of the tempo and the sample rate that are asked for."""
    stages: list[Encoder] = []
    if coding.speed != 1.0:
        stages.append(Tempo(coding.speed))
    if coding.rate_hz != SAMPLE_RATE_HZ:
        stages.append(Resampler(coding.rate_hz))
    return stages


class _Chain:
    """One stage after the other. Without stages it is PCM as it comes."""

    def __init__(self, stages: Sequence[Encoder]) -> None:
        self._stages = stages

    def feed(self, pcm: bytes) -> bytes:
        for stage in self._stages:
            pcm = stage.feed(pcm)
        return pcm

    def finish(self) -> bytes:
        rest = b""
        for stage in self._stages:
            rest = stage.feed(rest) + stage.finish()
        return rest


class _WavStream:
    """A header for a stream of unknown length, then PCM."""

    def __init__(self, rate_hz: int) -> None:
        self._header = wav_header(None, rate_hz)

    def feed(self, pcm: bytes) -> bytes:
        header, self._header = self._header, b""
        return header + pcm

    def finish(self) -> bytes:
        return self.feed(b"")
