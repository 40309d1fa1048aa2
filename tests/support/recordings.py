"""Recordings of every kind that is read, made on the spot from one sound."""

import functools
import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from tests.support.made_up_clips import encoded, muxed, sine, without_length

RATE_HZ = 24_000
SECONDS = 0.4


@dataclass(frozen=True, slots=True)
class Kind:
    make: Callable[[NDArray[np.float64]], bytes]
    """From [samples, channels] at `rate`."""
    error: float | None = None
    """Largest difference of a sample; None where the codec is lossy, and only likeness can be asked for."""
    rate: int = RATE_HZ
    likeness: float = 0.95


def sweep(rate: int = RATE_HZ, seconds: float = SECONDS, channels: int = 1) -> NDArray[np.float64]:
    """300 to 1200 Hz, so that a shift in time shows. [samples, channels]"""
    times = np.arange(round(rate * seconds)) / rate
    phase = 2 * np.pi * (300 * times + 450 * times**2 / seconds)
    return np.tile(0.5 * np.sin(phase)[:, None], (1, channels))


def _by_soundfile(container: str, subtype: str, error: float | None = None, rate: int = RATE_HZ) -> Kind:
    return Kind(lambda samples: encoded(samples, rate, container, subtype), error, rate)


def _by_ffmpeg(container: str, codec: str, error: float | None = None, rate: int = RATE_HZ) -> Kind:
    return Kind(lambda samples: muxed(samples, rate, container, codec), error, rate)


_BITS = {8: 2**-7, 16: 2**-15, 24: 2**-15, 32: 2**-15, 64: 2**-15}
"""Our own 16 bits bound what a comparison can see."""
_LAW = 0.02

_SOUNDFILE_PCM = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
    "WAVEX": ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
    "W64": ("PCM_U8", "PCM_16", "PCM_24", "FLOAT"),
    "RF64": ("PCM_16", "PCM_24", "FLOAT"),
    "AIFF": ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
    "AU": ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"),
    "CAF": ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ALAC_16", "ALAC_24"),
    "FLAC": ("PCM_S8", "PCM_16", "PCM_24"),
}
_FFMPEG_PCM = {
    "mov": (
        "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be",
        "pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be",
    ),
    "mp4": ("pcm_s16le", "pcm_s24be", "pcm_f32le"),
    "matroska": (
        "pcm_u8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le", "pcm_f64le",
    ),
    "caf": ("pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"),
    "aiff": ("pcm_s16le",),
    "wav": ("pcm_s64le",),
}  # fmt: skip
_LOSSLESS = (("mov", "alac"), ("ipod", "alac"), ("mp4", "flac"), ("matroska", "alac"), ("matroska", "flac"),
             ("ogg", "flac"), ("caf", "flac"), ("wav", "flac"))  # fmt: skip
_LOSSY = (("wav", "libmp3lame"), ("wav", "adpcm_ms"), ("wav", "adpcm_ima_wav"), ("wav", "mp2"), ("mov", "adpcm_ima_qt"),
          ("mov", "aac"), ("mov", "libmp3lame"), ("ipod", "aac"), ("mp4", "libopus"), ("3gp", "aac"), ("adts", "aac"),
          ("latm", "aac"), ("matroska", "aac"), ("matroska", "libmp3lame"), ("matroska", "libopus"),
          ("webm", "libopus"), ("ogg", "libopus"), ("caf", "adpcm_ima_qt"), ("caf", "libmp3lame"),
          ("aiff", "adpcm_ima_qt"))  # fmt: skip


def _digits(name: str) -> int:
    return int("".join(letter for letter in name.split("ALAC")[-1] if letter.isdigit()) or 16)


def _remuxed(data: bytes, container: str, **options: str) -> bytes:
    file = io.BytesIO()
    with av.open(io.BytesIO(data)) as source, av.open(file, "w", format=container, options=options) as output:
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    return file.getvalue()


_FRAGMENTS = {"movflags": "frag_every_frame+empty_moov+default_base_moof"}


def _wav(samples: NDArray[np.float64], order: str, bits: int, container_bytes: int) -> bytes:
    """Samples left-justified in whole bytes, as WAV has them."""
    full = (samples[:, 0] * (2 ** (bits - 1) - 1)).round().astype(np.int64) << (8 * container_bytes - bits)
    wide = full.astype(order + "i8").tobytes()
    step = slice(8 - container_bytes, 8) if order == ">" else slice(0, container_bytes)
    data = b"".join(wide[n : n + 8][step] for n in range(0, len(wide), 8))
    head = struct.pack(order + "HHIIHH", 1, 1, RATE_HZ, RATE_HZ * container_bytes, container_bytes, bits)
    sizes = struct.Struct(order + "I")
    name = b"RIFX" if order == ">" else b"RIFF"
    return (
        name + sizes.pack(36 + len(data)) + b"WAVEfmt " + sizes.pack(16) + head + b"data" + sizes.pack(len(data)) + data
    )


KINDS: dict[str, Kind] = {
    **{
        f"{c} {s}": _by_soundfile(c, s, 2.1 * _BITS[_digits(s)])
        for c, subtypes in _SOUNDFILE_PCM.items()
        for s in subtypes
    },
    **{
        f"{c} {s}": _by_ffmpeg(c, s, 2.1 * _BITS[int(s.strip("pcm_sufleb"))])
        for c, codecs in _FFMPEG_PCM.items()
        for s in codecs
    },
    **{f"{c} {s}": _by_ffmpeg(c, s, 2.1 * 2**-15) for c, s in _LOSSLESS},
    "matroska tta": _by_ffmpeg("matroska", "tta", 2.1 * 2**-7),  # FFmpeg's encoders of these two begin with 8 bits
    "matroska wavpack": _by_ffmpeg("matroska", "wavpack", 2.1 * 2**-7),
    **{f"{c} {s}": _by_ffmpeg(c, s) for c, s in _LOSSY},
    **{
        f"{c} {law}": _by_soundfile(c, law, _LAW)
        for c in ("WAV", "RF64", "AIFF", "AU", "CAF")
        for law in ("ULAW", "ALAW")
    },
    "mov pcm_alaw": _by_ffmpeg("mov", "pcm_alaw", _LAW),
    "mov pcm_mulaw": _by_ffmpeg("mov", "pcm_mulaw", _LAW),
    "OGG VORBIS": _by_soundfile("OGG", "VORBIS"),
    "MP3": _by_soundfile("MP3", "MPEG_LAYER_III"),
    "WAV GSM": Kind(lambda samples: encoded(samples, 8000, "WAV", "GSM610"), rate=8000, likeness=0.9),
    "WAV G.721": _by_soundfile("WAV", "G721_32", rate=8000),
    "WAV NMS": _by_soundfile("WAV", "NMS_ADPCM_32", rate=8000),
    "AU G.723": _by_soundfile("AU", "G723_40", rate=8000),
    "AIFF DWVW": _by_soundfile("AIFF", "DWVW_16", 2.1 * 2**-15),
    "WAV G.722": _by_ffmpeg("wav", "g722", rate=16_000),
    "AMR": Kind(lambda samples: muxed(samples, 8000, "amr", "libopencore_amrnb"), rate=8000, likeness=0.8),
    "3gp AMR": Kind(lambda samples: muxed(samples, 8000, "3gp", "libopencore_amrnb"), rate=8000, likeness=0.8),
    "RIFX 16": Kind(lambda samples: _wav(samples, ">", 16, 2), 2.1 * 2**-15),
    "RIFX 24": Kind(lambda samples: _wav(samples, ">", 24, 3), 2.1 * 2**-15),
    "WAV 24 in 32": Kind(lambda samples: _wav(samples, "<", 24, 4), 2.1 * 2**-15),
    "WAV 12 in 16": Kind(lambda samples: _wav(samples, "<", 12, 2), 2.1 * 2**-11),
    "webm Vorbis": Kind(lambda samples: _remuxed(encoded(samples, RATE_HZ, "OGG", "VORBIS"), "webm")),
    "fragmented AAC": Kind(lambda samples: _remuxed(muxed(samples, RATE_HZ, "ipod", "aac"), "mp4", **_FRAGMENTS)),
    "fragmented ALAC": Kind(
        lambda samples: _remuxed(muxed(samples, RATE_HZ, "ipod", "alac"), "mp4", **_FRAGMENTS), 2.1 * 2**-15
    ),
    "fragmented PCM": Kind(
        lambda samples: _remuxed(muxed(samples, RATE_HZ, "mov", "pcm_s16le"), "mov", **_FRAGMENTS), 2.1 * 2**-15
    ),
    "live webm": Kind(lambda samples: _remuxed(muxed(samples, RATE_HZ, "webm", "libopus"), "webm", live="1")),
    "streamed FLAC": Kind(lambda samples: without_length(encoded(samples, RATE_HZ, "FLAC", "PCM_16")), 2.1 * 2**-15),
}


@functools.cache
def recording(name: str, seconds: float = SECONDS, channels: int = 1) -> bytes:
    kind = KINDS[name]
    return kind.make(sweep(kind.rate, seconds, channels))


def assert_is_the_sweep(name: str, pcm: bytes) -> None:
    """Equal within the codec's own error, or for a lossy one alike at one shift of at most 60 ms."""
    heard = np.frombuffer(pcm, "<i2") / 32_767
    said = sweep()[:, 0]
    if (error := KINDS[name].error) is not None:
        assert len(heard) == len(said)
        assert np.abs(heard - said).max() <= error
        return
    assert abs(len(heard) - len(said)) <= 0.1 * RATE_HZ
    assert likeness(heard, said) > KINDS[name].likeness


def likeness(heard: NDArray[np.float64], said: NDArray[np.float64]) -> float:
    """Correlation at the best shift, 1 for the same sound; a wrong loudness makes it smaller too."""
    size = 2 * max(len(heard), len(said))
    shifts = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(said, size)), size)
    return float(shifts.max() / max(heard @ heard, said @ said))


__all__ = ["KINDS", "RATE_HZ", "assert_is_the_sweep", "likeness", "recording", "sine", "sweep"]
