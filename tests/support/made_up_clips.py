"""Clips of every kind that is read, made on the spot."""

import functools
import io
import struct

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

FREQUENCY_HZ = 440.0
AMPLITUDE = 0.5
MAX_SECONDS = 5.0


def sine(sample_rate: int = 24_000, seconds: float = 1.0, channels: int = 1) -> NDArray[np.float64]:
    """[samples, channels]"""
    times = np.arange(round(sample_rate * seconds)) / sample_rate
    return np.tile(AMPLITUDE * np.sin(2 * np.pi * FREQUENCY_HZ * times)[:, None], (1, channels))


def encoded(samples: NDArray[np.float64], sample_rate: int, container: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format=container, subtype=subtype)
    return file.getvalue()


def muxed(samples: NDArray[np.float64], sample_rate: int, container: str, codec: str) -> bytes:
    """What soundfile cannot write. One, two or eight channels."""
    layout = {1: "mono", 2: "stereo", 8: "7.1"}[samples.shape[1]]
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=sample_rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(samples.astype(np.float32).reshape(1, -1), format="flt", layout=layout)
        frame.sample_rate, frame.pts = sample_rate, 0
        context = stream.codec_context
        resampler = av.AudioResampler(context.format, layout, sample_rate, context.frame_size or 1024)
        for piece in (*resampler.resample(frame), *resampler.resample(None)):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return file.getvalue()


@functools.cache
def m4a() -> bytes:
    return muxed(sine(48_000, channels=2), 48_000, "ipod", "aac")


def without_length(flac: bytes) -> bytes:
    """As an encoder writes it into a pipe: the header's count of samples stays zero."""
    data = bytearray(flac)
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


@functools.cache
def streamed_flac() -> bytes:
    return without_length(encoded(sine(), 24_000, "FLAC", "PCM_16"))


def wav_claiming(num_bytes: int) -> bytes:
    data = encoded(sine(), 24_000, "WAV", "PCM_16")
    return data[:40] + struct.pack("<I", num_bytes) + data[44:]


def wav_head(sample_rate: int, channels: int) -> bytes:
    head = struct.pack("<HHIIHH", 1, channels, sample_rate, sample_rate * channels * 2 % 2**32, channels * 2, 16)
    body = bytes(channels * 2 * 4800)
    return b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0" + head + b"data" + struct.pack("<I", len(body)) + body


def wav_of_float(value: float) -> bytes:
    samples = sine()
    samples[1234] = value
    return encoded(samples, 24_000, "WAV", "DOUBLE")


SEEDS = {
    "wav": lambda: encoded(sine(8_000, 0.1), 8_000, "WAV", "PCM_16"),
    "adpcm": lambda: encoded(sine(8_000, 0.1), 8_000, "WAV", "IMA_ADPCM"),
    "aiff": lambda: encoded(sine(8_000, 0.1), 8_000, "AIFF", "PCM_24"),
    "caf": lambda: encoded(sine(8_000, 0.1), 8_000, "CAF", "ALAC_16"),
    "flac": lambda: encoded(sine(8_000, 0.1), 8_000, "FLAC", "PCM_16"),
    "ogg": lambda: encoded(sine(8_000, 0.1), 8_000, "OGG", "VORBIS"),
    "opus": lambda: encoded(sine(8_000, 0.1), 8_000, "OGG", "OPUS"),
    "mp3": lambda: encoded(sine(8_000, 0.1), 8_000, "MP3"),
    "m4a": lambda: muxed(sine(48_000, 0.1), 48_000, "ipod", "aac"),
    "adts": lambda: muxed(sine(48_000, 0.1), 48_000, "adts", "aac"),
    "webm": lambda: muxed(sine(48_000, 0.1), 48_000, "webm", "libopus"),
    "mka": lambda: muxed(sine(48_000, 0.1), 48_000, "matroska", "flac"),
}
seed = functools.cache(lambda name: SEEDS[name]())
