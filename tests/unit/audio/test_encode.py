"""Every format, as FFmpeg hears it: nothing is missing, nothing is added but what the format cannot declare."""

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serve_app.audio.encode.encoder import Encoder, encode_whole, open_encoder
from serve_app.audio.encode.formats import FORMATS, AudioFormat, Coding, coding_of, format_accepted
from serve_app.audio.wav import wav_file, wav_header
from serve_app.errors import InvalidRequest
from tests.support.decoded import decoded

SAMPLES = 30_001
"""No whole number of any codec's frames."""
CODINGS = [
    Coding(kind, rate)
    for kind in FORMATS
    for rate in sorted({kind.rates_hz[0], kind.default_rate_hz, kind.rates_hz[-1]} | ({22_050} & {*kind.rates_hz}))
]
LOSSLESS = ("wav", "pcm", "flac")
UNDECLARED_DELAY = {"aac": 1024}
LEAST_SNR_DB = {"wav": 60, "pcm": 60, "flac": 60, "aac": 30, "mulaw": 30, "alaw": 30, "mp3": 20, "opus": 20}


def glide() -> NDArray[np.int16]:
    """A tone that rises and falls between 250 and 750 Hz, up to the last sample: no two stretches are alike."""
    time = np.arange(SAMPLES) / 24_000
    phase = 2 * np.pi * (500 * time - 250 / (2 * np.pi * 1.3) * np.cos(2 * np.pi * 1.3 * time))
    return (10_000 * np.sin(phase)).astype("<i2")


PCM = glide().tobytes()


def streamed(encoder: Encoder, pcm: bytes, chunk_bytes: int = 3840) -> list[bytes]:
    """The header, what each chunk made, and the rest."""
    pieces = [encoder.feed(b"")]
    pieces += [encoder.feed(pcm[start : start + chunk_bytes]) for start in range(0, len(pcm), chunk_bytes)]
    return [*pieces, encoder.finish()]


def snr_db(heard: NDArray[np.float32], meant: NDArray[np.float32]) -> float:
    noise = np.sum((heard - meant) ** 2) + 1e-12
    return float(10 * np.log10(np.sum(meant**2) / noise))


@pytest.mark.parametrize("as_stream", [True, False], ids=["stream", "file"])
@pytest.mark.parametrize("coding", CODINGS, ids=lambda coding: f"{coding.format.name}-{coding.rate_hz}")
def test_a_player_hears_every_sample_at_its_place(coding: Coding, as_stream: bool) -> None:
    name = coding.format.name
    data = b"".join(streamed(open_encoder(coding), PCM)) if as_stream else encode_whole(PCM, coding)
    heard = decoded(name, data, coding.rate_hz)
    meant = soxr.resample(glide() / np.float32(32_768), 24_000, coding.rate_hz)
    delay = UNDECLARED_DELAY.get(name, 0)
    assert len(heard) >= len(meant) + delay
    if name in (*LOSSLESS, "opus", "mulaw", "alaw") or (name == "mp3" and not as_stream):
        assert abs(len(heard) - len(meant)) <= 1
    assert snr_db(heard[delay : delay + len(meant)], meant) > LEAST_SNR_DB[name]
    end = slice(len(meant) - coding.rate_hz // 10, len(meant))
    assert snr_db(heard[delay:][end], meant[end]) > LEAST_SNR_DB[name] - 10


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_give_back_what_was_spoken(name: str) -> None:
    data = b"".join(streamed(open_encoder(coding_of(name)), PCM))
    assert np.array_equal(np.rint(decoded(name, data) * 32_768), glide())


def test_wav_is_what_it_always_was() -> None:
    assert streamed(open_encoder(coding_of("wav")), PCM)[0] == wav_header(None)
    assert b"".join(streamed(open_encoder(coding_of("wav")), PCM)) == wav_header(None) + PCM
    assert encode_whole(PCM, coding_of("wav")) == wav_file(PCM)


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_bytes_leave_with_the_chunks_and_not_at_the_end(kind: AudioFormat) -> None:
    pieces = streamed(open_encoder(coding_of(kind.name)), PCM)
    assert all(pieces[3:-2]), [len(piece) for piece in pieces]
    assert len(pieces[-1]) < sum(map(len, pieces)) / 6


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_an_answer_without_sound_is_a_stream_that_ends(kind: AudioFormat) -> None:
    coding = coding_of(kind.name)
    pieces = streamed(open_encoder(coding), b"")
    encode_whole(b"", coding)
    assert sum(map(len, pieces)) < 1000


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["wav", "opus", "flac", "mulaw"]), st.lists(st.integers(0, 6000), max_size=8))
def test_how_the_sound_is_cut_changes_nothing(name: str, sizes: list[int]) -> None:
    encoder, left, pieces = open_encoder(coding_of(name, 8000)), PCM, []
    for size in sizes:
        piece, left = left[: 2 * size], left[2 * size :]
        pieces.append(encoder.feed(piece))
    data = b"".join([*pieces, encoder.feed(left), encoder.finish()])
    at_once = b"".join(streamed(open_encoder(coding_of(name, 8000)), PCM, len(PCM)))
    assert np.array_equal(decoded(name, data, 8000), decoded(name, at_once, 8000))


@pytest.mark.parametrize("speed", [0.25, 0.6, 1.5, 4.0])
def test_speed_changes_the_length_and_keeps_the_pitch(speed: float) -> None:
    tone = (10_000 * np.sin(2 * np.pi * 440 * np.arange(48_000) / 24_000)).astype("<i2").tobytes()
    heard = decoded("pcm", b"".join(streamed(open_encoder(coding_of("pcm", None, speed)), tone)))
    assert len(heard) == pytest.approx(48_000 / speed, abs=2400)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert np.argmax(spectrum) * 24_000 / len(heard) == pytest.approx(440, rel=0.02)


@pytest.mark.parametrize(
    ("name", "rate", "speed", "field", "remedy"),
    [
        ("exe", None, 1.0, "format", "wav, pcm, mp3"),
        ("", None, 1.0, "format", "wav, pcm, mp3"),
        ("opus", 44_100, 1.0, "sample_rate", "8000, 12000, 16000, 24000 or 48000"),
        ("mulaw", 24_000, 1.0, "sample_rate", "must be 8000 "),
        ("wav", 0, 1.0, "sample_rate", "48000"),
        ("wav", None, 0.2, "speed", "from 0.25 to 4"),
        ("wav", None, float("nan"), "speed", "from 0.25 to 4"),
    ],
)
def test_what_a_format_cannot_do_is_refused_with_what_it_can(
    name: str, rate: int | None, speed: float, field: str, remedy: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        coding_of(name, rate, speed)
    assert refused.value.field == field
    assert remedy in refused.value.message


@pytest.mark.parametrize("name", ["MP3", " mpeg ", "mp3"])
def test_formats_have_the_names_that_people_use(name: str) -> None:
    assert coding_of(name).format.name == "mp3"


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        ("", None),
        ("*/*", None),
        ("application/octet-stream", None),
        ("text/html, application/json", None),
        ("audio/mpeg", "mp3"),
        ("Audio/OGG; codecs=opus", "opus"),
        ("audio/ogg;q=0.5, audio/flac", "flac"),
        ("audio/flac, audio/aac", "flac"),
        ("*/*, audio/aac", "aac"),
        ("*/*, audio/aac;q=0.9", None),
        ("audio/aac;q=0", None),
        ("audio/aac;q=x", None),
        ("audio/basic, */*;q=0.1", "mulaw"),
    ],
)
def test_accept_names_the_format_that_is_liked_best(accept: str, name: str | None) -> None:
    found = format_accepted(accept)
    assert (found.name if found else None) == name
