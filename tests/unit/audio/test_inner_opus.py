"""Sound that crosses replicas as Opus is as long as it was, a little late, and nearly the same."""

import numpy as np

from serve_app.audio.inner_opus import OpusPackets, OpusSound
from serve_app.messages import FRAME_SAMPLES, SAMPLE_RATE_HZ

DELAY_SAMPLES = 60
FRAMES = 25


def speech_like() -> np.ndarray:
    at = np.arange(FRAMES * FRAME_SAMPLES) / SAMPLE_RATE_HZ
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * at)
    return (6000 * loudness * sum(np.sin(2 * np.pi * 140 * k * at) / k for k in range(1, 20))).astype(np.int16)


def carried(sound: np.ndarray, bits_per_second: int) -> tuple[np.ndarray, int]:
    """What comes out, chunk by chunk as long as what went in, and the bytes in between."""
    packets, decoder = OpusPackets(bits_per_second), OpusSound()
    heard, num_bytes, first = [], 0, 0
    for frames in (1, 1, 2, 2, 4, 4, 11):
        chunk = sound[first * FRAME_SAMPLES : (first + frames) * FRAME_SAMPLES].tobytes()
        opus = packets.encode(chunk)
        assert len(opus) == 4 * frames
        pcm = decoder.decode(opus)
        assert len(pcm) == len(chunk)
        heard.append(np.frombuffer(pcm, np.int16))
        num_bytes += sum(map(len, opus))
        first += frames
    return np.concatenate(heard), num_bytes


def noise_db(sound: np.ndarray, heard: np.ndarray) -> float:
    there, came = sound[:-DELAY_SAMPLES].astype(float), heard[DELAY_SAMPLES:].astype(float)
    return 10 * np.log10(np.mean((there - came) ** 2) / np.mean(there**2))


def test_it_is_late_by_two_and_a_half_milliseconds_and_nearly_the_same() -> None:
    sound = speech_like()
    heard, num_bytes = carried(sound, 64_000)
    assert noise_db(sound, heard) < -15
    assert num_bytes < len(sound.tobytes()) / 4


def test_more_bits_leave_less_noise() -> None:
    sound = speech_like()
    assert noise_db(sound, carried(sound, 128_000)[0]) < noise_db(sound, carried(sound, 32_000)[0])


def test_no_sound_is_no_packet() -> None:
    assert OpusPackets(64_000).encode(b"") == ()
    assert OpusSound().decode(()) == b""
