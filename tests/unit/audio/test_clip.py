import io
import struct
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.audio.clip import decode_clip
from serve_app.errors import InvalidAudio
from tests.support.made_up_clips import (
    AMPLITUDE,
    FREQUENCY_HZ,
    MAX_SECONDS,
    SEEDS,
    encoded,
    m4a,
    muxed,
    seed,
    sine,
    streamed_flac,
    wav_claiming,
    wav_head,
    wav_of_float,
    without_length,
)


def patched(data: bytes, box: bytes, offset: int, fields: str, *values: int) -> bytes:
    """`offset` counts from the end of the box's name."""
    changed = bytearray(data)
    struct.pack_into(fields, changed, data.index(box) + 4 + offset, *values)
    return bytes(changed)


def refusal(data: bytes, max_seconds: float = MAX_SECONDS) -> str:
    with pytest.raises(InvalidAudio) as caught:
        decode_clip("context[0].audio", data, max_seconds)
    assert caught.value.field == "context[0].audio"
    assert ";" in caught.value.message, "a refusal names its remedy"
    return caught.value.message


def assert_is_sine(pcm: bytes, seconds: float = 1.0, tolerance_seconds: float = 0.0, amplitude: float = 0.01) -> None:
    samples = np.frombuffer(pcm, "<i2") / 32_767
    assert len(samples) / 24_000 == pytest.approx(seconds, abs=tolerance_seconds + 1 / 24_000)
    steady = samples[2400:-4800]
    spectrum = np.abs(np.fft.rfft(steady * np.hanning(len(steady))))
    assert np.argmax(spectrum) * 24_000 / len(steady) == pytest.approx(FREQUENCY_HZ, abs=2)
    assert np.sqrt(2 * np.mean(steady**2)) == pytest.approx(AMPLITUDE, rel=amplitude)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_every_wav_encoding_is_read(subtype: str) -> None:
    assert_is_sine(decode_clip("audio", encoded(sine(), 24_000, "WAV", subtype), MAX_SECONDS), amplitude=0.02)


@pytest.mark.parametrize("sample_rate", [1_001, 8_000, 16_000, 22_050, 44_100, 48_000, 192_000, 768_000])
def test_every_sample_rate_is_resampled(sample_rate: int) -> None:
    assert_is_sine(decode_clip("audio", encoded(sine(sample_rate), sample_rate, "WAV", "PCM_16"), MAX_SECONDS))


@pytest.mark.parametrize("channels", [1, 2, 8, 32])
def test_channels_are_averaged(channels: int) -> None:
    shares = np.arange(1, channels + 1) / np.arange(1, channels + 1).mean()
    data = encoded(sine(8_000, channels=channels) * shares, 8_000, "WAV", "FLOAT")
    assert_is_sine(decode_clip("audio", data, MAX_SECONDS))


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
        ("MP3", None),
        ("AIFF", "PCM_16"),
        ("AU", "PCM_16"),
        ("CAF", "PCM_16"),
        ("W64", "PCM_16"),
        ("RF64", "PCM_16"),
    ],
)
def test_every_container_of_soundfile_is_read(container: str, subtype: str | None) -> None:
    data = encoded(sine(48_000, channels=2), 48_000, container, subtype)
    assert_is_sine(decode_clip("audio", data, MAX_SECONDS), tolerance_seconds=0.06, amplitude=0.03)


@pytest.mark.parametrize(
    ("container", "codec"),
    [("ipod", "aac"), ("mp4", "aac"), ("mov", "aac"), ("adts", "aac"), ("webm", "libopus"), ("matroska", "flac")],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_container_of_ffmpeg_is_read(container: str, codec: str, channels: int) -> None:
    data = muxed(sine(48_000, channels=channels), 48_000, container, codec)
    assert_is_sine(decode_clip("audio", data, MAX_SECONDS), tolerance_seconds=0.06, amplitude=0.03)


def test_a_streamed_flac_is_read() -> None:
    assert_is_sine(decode_clip("audio", streamed_flac(), MAX_SECONDS))


def test_a_fragmented_mp4_is_read() -> None:
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(m4a())) as source,
        av.open(file, "w", format="mp4", options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}) as output,
    ):
        stream = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                output.mux(packet)
    assert_is_sine(decode_clip("audio", file.getvalue(), MAX_SECONDS), tolerance_seconds=0.06)


def test_the_sound_of_a_video_is_read() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        video, audio = output.add_stream("mpeg4", rate=25), output.add_stream("aac", rate=24_000, layout="mono")
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        for stream, frame in (
            (video, av.VideoFrame.from_ndarray(np.zeros((48, 32), np.uint8), format="yuv420p")),
            (audio, av.AudioFrame.from_ndarray(sine().T.astype(np.float32), format="fltp", layout="mono")),
        ):
            frame.pts = 0
            if isinstance(frame, av.AudioFrame):
                frame.sample_rate = 24_000
            output.mux(stream.encode(frame))
        for stream in (video, audio):
            output.mux(stream.encode(None))
    assert_is_sine(decode_clip("audio", file.getvalue(), MAX_SECONDS), tolerance_seconds=0.06)


@pytest.mark.parametrize("container", ["MP3", "FLAC"])
def test_reading_by_blocks_gives_the_samples_of_reading_at_once(container: str) -> None:
    data = encoded(sine(seconds=3), 24_000, container)
    whole, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    pcm = np.frombuffer(decode_clip("audio", data, MAX_SECONDS), "<i2")
    assert np.abs(pcm - whole * 32_767).max() < 1.1


def test_the_sound_of_an_m4a_with_eight_channels_is_read() -> None:
    data = muxed(sine(48_000, channels=8), 48_000, "ipod", "aac")
    # One of the eight is the bass channel, which AAC keeps only the lowest tones of.
    assert_is_sine(decode_clip("audio", data, MAX_SECONDS), tolerance_seconds=0.06, amplitude=0.15)


def test_float_samples_over_full_scale_are_clipped() -> None:
    pcm = decode_clip("audio", encoded(sine() * 1e30, 44_100, "WAV", "FLOAT"), MAX_SECONDS)
    assert np.abs(np.frombuffer(pcm, "<i2").astype(int)).max() == 32_767


def test_a_clip_of_exactly_the_limit_is_read() -> None:
    pcm = decode_clip("audio", encoded(sine(44_100, MAX_SECONDS), 44_100, "WAV", "PCM_16"), MAX_SECONDS)
    assert len(pcm) == 2 * 24_000 * MAX_SECONDS


def test_clips_are_read_from_many_threads_at_once() -> None:
    clips = [m4a(), streamed_flac(), encoded(sine(44_100), 44_100, "MP3"), encoded(sine(), 24_000, "OGG")] * 4
    alone = [decode_clip("audio", clip, MAX_SECONDS) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda clip: decode_clip("audio", clip, MAX_SECONDS), clips)) == alone


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"R",
        b"RIFF",
        b"hello, world" * 100,
        b"\xff\xd8\xff\xe0" + bytes(1000),
        b"%PDF-1.7\n" + bytes(1000),
        b"OggS" + bytes(1000),
        b"fLaC" + bytes(1000),
        b"ID3" + bytes(1000),
        b"\x1aE\xdf\xa3" + bytes(1000),
        b"\0\0\0\x14ftypisom" + bytes(1000),
    ],
)
def test_what_is_not_audio_is_refused(data: bytes) -> None:
    assert "cannot be decoded" in refusal(data)


@pytest.mark.parametrize(
    "disguise", [b"", b"\0\0\0\x10ftyp\0\0\0\0\0\0\0\0", b"\x1aE\xdf\xa3\x80", b"ID3\x03\0\0\0\0\0\0"]
)
@pytest.mark.parametrize(
    "script",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:{path}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile {path}\n",
        "[playlist]\nFile1={path}\n",
        '<?xml version="1.0"?><MPD><BaseURL>file:{path}</BaseURL></MPD>',
    ],
)
def test_a_playlist_never_reaches_the_file_it_names(tmp_path: Path, script: str, disguise: bytes) -> None:
    named = tmp_path / "secret.wav"
    named.write_bytes(encoded(sine(), 24_000, "WAV", "PCM_16"))
    assert "cannot be decoded" in refusal(disguise + script.format(path=named).encode())


def test_a_codec_that_is_not_allowed_is_refused() -> None:
    assert "cannot be decoded" in refusal(patched(encoded(sine(), 24_000, "WAV", "ULAW"), b"fmt ", 4, "<H", 0x161))


@pytest.mark.parametrize("samples", [0, 1, 400])
@pytest.mark.parametrize("container", ["WAV", "AIFF"])
def test_an_empty_or_very_short_clip_is_refused(samples: int, container: str) -> None:
    assert "10 milliseconds" in refusal(encoded(sine(48_000)[:samples], 48_000, container, "PCM_16"))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_samples_that_are_not_finite_are_refused(value: float) -> None:
    assert "finite" in refusal(wav_of_float(value))


@pytest.mark.parametrize("sample_rate", [1, 999, 768_001, 2**31 - 1])
def test_an_absurd_sample_rate_is_refused(sample_rate: int) -> None:
    assert "1000 to 768000 Hz" in refusal(wav_head(sample_rate, 1), max_seconds=1e6)


@pytest.mark.parametrize("channels", [33, 1000])
def test_too_many_channels_are_refused(channels: int) -> None:
    assert "32 channels" in refusal(wav_head(48_000, channels))


@pytest.mark.parametrize(
    "data",
    [
        lambda: encoded(sine(8_000, 5.1), 8_000, "WAV", "PCM_16"),
        lambda: encoded(sine(8_000, 5.1), 8_000, "MP3"),
        lambda: encoded(sine(8_000, 5.1), 8_000, "OGG"),
        lambda: encoded(sine(8_000, 5.1), 8_000, "FLAC", "PCM_16"),
        lambda: muxed(sine(48_000, 5.1), 48_000, "ipod", "aac"),
        lambda: muxed(sine(48_000, 5.1), 48_000, "webm", "libopus"),
    ],
)
def test_a_long_clip_is_refused_with_the_limit(data) -> None:
    assert "longer than 5 seconds" in refusal(data())


def test_a_wav_that_claims_hours_holds_what_it_holds() -> None:
    assert_is_sine(decode_clip("audio", wav_claiming(2**32 - 100), MAX_SECONDS))


@pytest.mark.parametrize("length_in_header", [True, False])
def test_a_file_that_unpacks_to_an_hour_takes_little_memory(length_in_header: bool) -> None:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 8_000, 1, format="FLAC", subtype="PCM_16") as silence:
        for _ in range(60):
            silence.write(np.zeros(60 * 8_000, np.int16))
    data = file.getvalue() if length_in_header else without_length(file.getvalue())
    tracemalloc.start()
    assert "longer than 5 seconds" in refusal(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data) < 100_000
    assert peak < 2**20


def test_an_mp4_index_that_claims_many_packets_is_refused_before_it_is_built() -> None:
    claims = 60_000_000
    bomb = patched(m4a(), b"stsz", 4, ">II", 1, claims)
    bomb = patched(bomb, b"stsc", 4, ">IIII", 1, 1, claims, 1)
    bomb = patched(bomb, b"stts", 4, ">III", 1, claims, 1024)
    assert "longer than 5 seconds" in refusal(bomb)


@pytest.mark.parametrize("box", [b"cmov", struct.pack(">4sIII", b"trun", 0, 2**31, 0)])
def test_an_mp4_index_that_unpacks_is_refused_wherever_it_stands(box: bytes) -> None:
    assert "longer than 5 seconds" in refusal(m4a() + b"\0\0\0\x20free" + box.ljust(24, b"\0"))
    assert "longer than 5 seconds" in refusal(m4a() + b"\0\0\0\x03" + box)


def test_names_of_index_tables_within_the_sound_itself_do_no_harm() -> None:
    sound = b"stsz\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xffcmov"
    for size in (struct.pack(">I", 8 + len(sound)) + b"mdat", struct.pack(">I4sQ", 1, b"mdat", 16 + len(sound))):
        assert_is_sine(decode_clip("audio", m4a() + size + sound, MAX_SECONDS), tolerance_seconds=0.06)


@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("name", SEEDS)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(name: str, data: st.DataObject) -> None:
    clip = bytearray(seed(name))
    # Most of a file's structure is near its start, or in an MP4 near its end.
    near_an_end = st.integers(0, 127).map(lambda n: n % len(clip)) | st.integers(1, 900).map(lambda n: -(n % len(clip)))
    places = near_an_end | st.integers(0, len(clip) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=8)):
        clip[place] = value
    end = data.draw(st.just(len(clip)) | st.integers(0, len(clip)))
    try:
        pcm = decode_clip("audio", bytes(clip[:end]), MAX_SECONDS)
    except InvalidAudio:
        return
    assert 480 <= len(pcm) <= 2 * 24_000 * MAX_SECONDS + 2
