"""Headers that lie about sizes, what stands in front of a recording, and several recordings in one file."""

import struct

import numpy as np
import pytest

from serve_app.audio.clip import decode_clip, decode_recording
from serve_app.errors import InvalidAudio
from tests.support.made_up_clips import MAX_SECONDS, encoded, m4a, muxed
from tests.support.recordings import RATE_HZ, assert_is_the_sweep, likeness, recording, sweep

UNKNOWN = (0, 0xFFFFFFFF, 0x7FFFFFFF, 2_000_000_000, 1000)
ID3 = b"ID3\x04\0\0\0\0\x01\x00" + b"\xff\xfb\x90\0" * 32
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 64, 0, 0) + bytes(64)


def sizes(data: bytes, *places: tuple[bytes, int, str, int]) -> bytes:
    """With a value of a struct's form at an offset from each chunk's name."""
    changed = bytearray(data)
    for name, offset, form, value in places:
        struct.pack_into(form, changed, data.index(name) + offset, value)
    return bytes(changed)


def read(data: bytes) -> np.ndarray:
    return np.frombuffer(decode_clip("audio", data, MAX_SECONDS), "<i2") / 32_767


@pytest.mark.parametrize("claim", UNKNOWN)
@pytest.mark.parametrize("riff", [0, 36, 0xFFFFFFFF])
def test_a_wav_is_read_to_its_end(claim: int, riff: int) -> None:
    data = sizes(recording("WAV PCM_16"), (b"RIFF", 4, "<I", riff), (b"data", 4, "<I", claim))
    assert_is_the_sweep("WAV PCM_16", decode_clip("audio", data, MAX_SECONDS))


@pytest.mark.parametrize("claim", UNKNOWN[:-1])
def test_an_aiff_and_an_au_are_read_to_their_end(claim: int) -> None:
    aiff = sizes(
        recording("AIFF PCM_16"), (b"FORM", 4, ">I", claim), (b"COMM", 10, ">I", claim), (b"SSND", 4, ">I", claim)
    )
    assert_is_the_sweep("AIFF PCM_16", decode_clip("audio", aiff, MAX_SECONDS))
    au = sizes(recording("AU PCM_16"), (b".snd", 8, ">I", claim))
    assert_is_the_sweep("AU PCM_16", decode_clip("audio", au, MAX_SECONDS))


@pytest.mark.parametrize("claim", [0, -1, 2**40])
def test_a_caf_a_w64_and_an_rf64_are_read_to_their_end(claim: int) -> None:
    caf = sizes(recording("CAF PCM_16"), (b"data", 4, ">q", claim))
    assert_is_the_sweep("CAF PCM_16", decode_clip("audio", caf, MAX_SECONDS))
    w64 = sizes(recording("W64 PCM_16"), (b"data", 16, "<q", claim))
    assert_is_the_sweep("W64 PCM_16", decode_clip("audio", w64, MAX_SECONDS))
    rf64 = sizes(recording("RF64 PCM_16"), (b"ds64", 16, "<q", claim))
    assert_is_the_sweep("RF64 PCM_16", decode_clip("audio", rf64, MAX_SECONDS))
    assert_is_the_sweep("RF64 PCM_16", decode_clip("audio", b"BW64" + rf64[4:], MAX_SECONDS))


def test_chunks_behind_the_samples_are_no_sound() -> None:
    noise = np.random.default_rng(1).integers(0, 256, 4000, np.uint8).tobytes()
    data = recording("WAV PCM_16") + b"LIST" + struct.pack("<I", len(noise)) + noise
    assert_is_the_sweep("WAV PCM_16", decode_clip("audio", data, MAX_SECONDS))


@pytest.mark.parametrize("front", [bytes(3), bytes(5000), bytes(range(1, 100)), ID3, APE, ID3 + bytes(64), APE + ID3])
@pytest.mark.parametrize(
    "name", ["WAV PCM_16", "RF64 PCM_16", "FLAC PCM_16", "OGG VORBIS", "MP3", "AIFF PCM_16", "CAF PCM_16", "adts aac",
             "webm libopus", "ipod aac", "AMR"],
)  # fmt: skip
def test_tags_padding_and_junk_in_front_are_passed_over(name: str, front: bytes) -> None:
    assert_is_the_sweep(name, decode_clip("audio", front + recording(name), MAX_SECONDS))


@pytest.mark.parametrize("name", ["MP3", "adts aac"])
@pytest.mark.parametrize("cut", [1, 77, 150])
def test_a_stream_may_begin_in_the_middle_of_a_frame(name: str, cut: int) -> None:
    heard, said = read(recording(name)[cut:]), sweep()[:, 0]
    assert likeness(heard, said) > 0.8


JOINED = ["WAV PCM_16", "W64 PCM_16", "RF64 PCM_16", "FLAC PCM_16", "OGG VORBIS", "ogg libopus", "ogg flac", "MP3",
          "adts aac", "webm libopus", "matroska pcm_s16le", "ipod aac", "fragmented AAC", "AIFF PCM_16", "CAF PCM_16",
          "AMR"]  # fmt: skip


@pytest.mark.parametrize("name", JOINED)
def test_joined_recordings_are_read_one_after_the_other(name: str) -> None:
    alone, joined = read(recording(name)), read(recording(name) * 3)
    # An encoder's delay stands before each but the first.
    assert abs(len(joined) - 3 * len(alone)) <= 0.2 * RATE_HZ
    assert likeness(joined[-len(alone) :], alone) > 0.8
    assert likeness(joined[: len(alone)], alone) > 0.8


@pytest.mark.parametrize("claim", UNKNOWN)
def test_joined_wavs_may_leave_their_sizes_open(claim: int) -> None:
    part = sizes(recording("WAV PCM_16"), (b"RIFF", 4, "<I", claim), (b"data", 4, "<I", claim))
    alone = read(recording("WAV PCM_16"))
    np.testing.assert_array_equal(read(part * 3), np.tile(alone, 3))


@pytest.mark.parametrize(
    ("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16"), ("WAV", "PCM_16")]
)
def test_joined_recordings_may_differ_in_rate_and_channels(container: str, subtype: str) -> None:
    first = encoded(sweep(48_000, channels=2), 48_000, container, subtype)
    second = encoded(sweep(16_000), 16_000, container, subtype)
    joined, said = read(first + second), sweep()[:, 0]
    assert abs(len(joined) - 2 * len(said)) <= 0.05 * RATE_HZ
    assert likeness(joined[-len(said) :], said) > 0.9
    assert likeness(joined[: len(said)], said) > 0.9


def test_the_limit_holds_for_all_joined_recordings_together() -> None:
    part = recording("WAV PCM_16", 2.0)
    assert len(read(part * 2)) == 4 * RATE_HZ
    with pytest.raises(InvalidAudio, match="longer than 5 seconds"):
        read(part * 3)


def test_a_damaged_stretch_is_left_out_with_a_notice() -> None:
    data = bytearray(muxed(sweep(48_000, 2.0), 48_000, "adts", "aac"))
    middle = len(data) // 2
    data[middle : middle + 600] = bytes(600)
    noted = decode_recording("audio", bytes(data), MAX_SECONDS)
    assert len(noted.pcm) > 2 * 1.5 * RATE_HZ
    assert any("damaged" in notice for notice in noted.notices)


def test_a_piece_from_the_middle_of_a_recording_is_refused_with_the_reason() -> None:
    webm, ogg, mp4 = recording("webm libopus"), recording("OGG VORBIS"), m4a()
    for piece, reason in (
        (webm[webm.index(b"\x1fC\xb6u") :], "begins in the middle"),
        (ogg[ogg.index(b"OggS", 4) :], "begins in the middle"),
        (mp4[: mp4.index(b"moov") - 4], "index"),
    ):
        with pytest.raises(InvalidAudio, match=f"cannot be decoded: .*{reason}.*; send"):
            decode_clip("audio", piece, MAX_SECONDS)
