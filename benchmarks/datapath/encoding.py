"""CPU that encoding an answer takes, by format: milliseconds for each second of speech.

    python -m benchmarks.datapath.encoding --seconds 20

Speech-like sound goes through each encoder in chunks of one frame (80 ms). A figure is the median of five rounds.
"""

import argparse
import statistics
import time

import numpy as np
from rich.console import Console
from rich.table import Table

from serve_app.audio.encode.encoder import open_encoder
from serve_app.audio.encode.formats import FORMATS, Coding, coding_of
from serve_app.messages import FRAME_SAMPLES, SAMPLE_RATE_HZ

_ROUNDS = 5
_FRAME_BYTES = 2 * FRAME_SAMPLES


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of speech in a round")
    seconds = parser.parse_args().seconds
    pcm = _speech_like(seconds)
    table = Table("format", "rate (Hz)", "CPU ms a second", "largest chunk (ms)", "open (ms)")
    codings = [coding_of(kind.name) for kind in FORMATS]
    for coding in (*codings, coding_of("wav", 48_000), coding_of("mp3", 44_100), coding_of("pcm", None, 1.5)):
        rounds = [_round(coding, pcm) for _ in range(_ROUNDS)]
        figures = [statistics.median(column) for column in zip(*rounds, strict=True)]
        name = coding.format.name + ("" if coding.speed == 1 else f", speed {coding.speed:g}")
        table.add_row(name, str(coding.rate_hz), *(f"{1000 * figure:.2f}" for figure in _a_second(figures, seconds)))
    Console().print(table)


def _a_second(figures: list[float], seconds: float) -> tuple[float, ...]:
    total, *others = figures
    return (total / seconds, *others)


def _round(coding: Coding, pcm: bytes) -> tuple[float, float, float]:
    """CPU seconds of the whole answer, of its dearest chunk, and of opening the encoder."""
    opened_at = time.process_time()
    encoder = open_encoder(coding)
    last = begun_at = time.process_time()
    largest = 0.0
    for start in range(0, len(pcm), _FRAME_BYTES):
        encoder.feed(pcm[start : start + _FRAME_BYTES])
        now = time.process_time()
        largest, last = max(largest, now - last), now
    encoder.finish()
    return time.process_time() - begun_at, largest, begun_at - opened_at


def _speech_like(seconds: float) -> bytes:
    """A buzz whose pitch and loudness move, with some noise."""
    clock = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    phase = 2 * np.pi * (140 * clock - 20 / (2 * np.pi * 0.7) * np.cos(2 * np.pi * 0.7 * clock))
    buzz = sum(np.sin(harmonic * phase) / harmonic for harmonic in range(1, 25))
    noise = np.random.default_rng(0).normal(0, 0.05, len(clock))
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * 3.1 * clock)
    return (4000 * loudness * (buzz + noise)).astype("<i2").tobytes()


if __name__ == "__main__":
    main()
