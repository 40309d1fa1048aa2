"""What a caller sends is decoded where it can do no harm: attacks end as refusals, at a bounded cost."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve_app.audio import reader_process
from serve_app.audio.clip import decode_clip
from serve_app.audio.read import ClipReader, read_clip
from serve_app.errors import AudioTooLong, GenerationFailed, InvalidAudio
from tests.support.made_up_clips import MAX_SECONDS, SEEDS, encoded, seed, sine, wav_head

OPUS_HEAD = b"OpusHead\x01\x01\0\0\x80\xbb\0\0\0\0\0"


def mkv(*elements: bytes) -> bytes:
    return element("1A45DFA3", element("4282", b"matroska")) + element("18538067", *elements)


def element(identifier: str, *content: bytes) -> bytes:
    body = b"".join(content)
    return bytes.fromhex(identifier) + (1 << 56 | len(body)).to_bytes(8, "big") + body


def opus_track(number: int, encoding: bytes = b"") -> bytes:
    return element("AE", element("D7", bytes([number])), element("83", b"\x02"), element("86", b"A_OPUS"),
                   element("63A2", OPUS_HEAD), encoding)  # fmt: skip


def id3(frame: bytes, num_frames: int) -> bytes:
    size = len(frame) * num_frames
    return b"ID3\x03\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + frame * num_frames


def box(name: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), name) + body


def mp4_with(moov: bytes) -> bytes:
    return box(b"ftyp", b"isom\0\0\0\0isom") + box(b"moov", moov)


def blocks_that_unpack(num: int) -> bytes:
    """Of a track nobody asked for: each kilobytes that unpack to 9.9 MB."""
    packed = element("6D80", element("6240", element("5034", element("4254", b"\0"))))
    block = element("A3", b"\x82\0\0\x80", zlib.compress(bytes(9_900_000), 9))
    tracks = element("1654AE6B", opus_track(1), opus_track(2, packed))
    return mkv(tracks, element("1F43B675", element("E7", b"\0"), block * num))


PICTURE = b"APIC" + struct.pack(">IH", 15, 0) + b"\0image/png\0\3\0xy"
MILLION = 1_000_000
ATTACKS: dict[str, Callable[[], bytes]] = {
    "mkv of empty tags": lambda: mkv(element("1254C367", b"\x73\x73\x80" * MILLION)),
    "mkv of empty tracks": lambda: mkv(element("1654AE6B", b"\xae\x80" * MILLION)),
    "mkv of empty cues": lambda: mkv(element("1C53BB6B", b"\xbb\x80" * MILLION)),
    "mkv of empty chapters": lambda: mkv(element("1043A770", element("45B9", b"\xb6\x80" * MILLION))),
    "mkv of empty attachments": lambda: mkv(element("1941A469", b"\x61\xa7\x80" * MILLION)),
    "mkv of blocks that unpack": lambda: blocks_that_unpack(20),
    "mkv of tiny blocks": lambda: mkv(
        element("1654AE6B", opus_track(1)), element("1F43B675", b"\xa3\x84\x81\0\0\x80" * MILLION)
    ),
    "id3 of pictures": lambda: id3(PICTURE, 200_000),
    "id3 that unpacks": lambda: id3(b"TIT2\0\0\x23\0\0\x80\0\x89\x54\x41" + zlib.compress(bytes(MILLION), 9), 1000),
    "mp4 of empty tracks": lambda: mp4_with(box(b"trak") * MILLION),
    "mp4 of nested boxes": lambda: b"".join(
        struct.pack(">I4s", 800_000 - 8 * n, b"moov" if n else b"ftyp") for n in range(100_000)
    ),
    "mp4 of many chunks": lambda: mp4_with(
        box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", box(b"stsc", bytes(6) + b"\x0f\0" + bytes(MILLION * 12))))))
    ),
    "aac of empty frames": lambda: b"\xff\xf1\x50\x80\x00\xff\xfc" * MILLION,
    "wav of a thousand channels": lambda: wav_head(48_000, 1000),
    "wav of empty chunks": lambda: wav_head(48_000, 1)[:36] + b"junk\0\0\0\0" * MILLION,
}


@pytest.mark.parametrize("name", SEEDS)
def test_a_clip_is_read_as_in_this_process(name: str) -> None:
    assert read_clip("audio", seed(name), MAX_SECONDS) == decode_clip("audio", seed(name), MAX_SECONDS)


def test_a_refusal_is_as_in_this_process() -> None:
    for data in (b"", b"hello", encoded(sine(8_000, 5.1), 8_000, "WAV", "PCM_16"), wav_head(1, 1)):
        with pytest.raises(InvalidAudio) as here:
            decode_clip("context.0.audio", data, MAX_SECONDS)
        with pytest.raises(InvalidAudio) as there:
            read_clip("context.0.audio", data, MAX_SECONDS)
        assert (type(there.value), there.value.args) == (type(here.value), here.value.args)
    with pytest.raises(AudioTooLong):
        read_clip("audio", encoded(sine(8_000, 5.1), 8_000, "FLAC"), MAX_SECONDS)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_ends_as_a_refusal(name: str) -> None:
    with pytest.raises(InvalidAudio, match=r"^audio: the audio .*; "):
        read_clip("audio", ATTACKS[name](), MAX_SECONDS)


@pytest.mark.parametrize(
    ("limit", "value", "work"),
    [("CPU_SECONDS", 1, "while True: pass"), ("MEMORY_BYTES", 64 << 20, "bytearray(128 << 20)")],
)
def test_a_clip_that_takes_too_much_is_stopped(limit: str, value: int, work: str) -> None:
    code = (
        f"import sys; from serve_app.audio import reader_process; reader_process.{limit} = {value}\n"
        "reader_process._load_late_parts()\n"
        f"def decode(*_):\n    {work}\n"
        "reader_process.decode_recording = decode\n"
        "print(reader_process.ANSWER.unpack(reader_process._answer_of_child(b'', 5.0)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.stdout.strip() == f"({reader_process.STOPPED}, 0, 0)"


def test_what_stopped_a_clip_is_said_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ClipReader(1)
    reader.read("audio", seed("wav"), MAX_SECONDS)
    monkeypatch.setattr(reader._idle[0], "ask", lambda data, max_seconds: (reader_process.STOPPED, b"", b""))
    with pytest.raises(InvalidAudio, match="audio: the audio takes too long or too much memory to decode; send"):
        reader.read("audio", seed("wav"), MAX_SECONDS)


def test_a_child_opens_neither_files_nor_sockets() -> None:
    child = os.fork()
    if child == 0:
        try:
            reader_process._limit_this_process(0)
            refused = 0
            for opening in (Path("/etc/passwd").read_bytes, socket.socket, os.pipe):
                try:
                    opening()
                except OSError:
                    refused += 1
            os._exit(refused)
        finally:
            os._exit(100)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3


def test_clips_are_read_for_many_threads_at_once() -> None:
    reader = ClipReader(2)
    clips = [seed(name) for name in ("wav", "flac", "mp3", "m4a")] * 5
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(lambda clip: reader.read("audio", clip, MAX_SECONDS), clips))
    assert read == [decode_clip("audio", clip, MAX_SECONDS) for clip in clips]
    assert 1 <= len(reader._idle) <= 2


def test_a_reader_that_was_killed_is_replaced() -> None:
    reader = ClipReader(1)
    reader.read("audio", seed("wav"), MAX_SECONDS)
    reader._idle[0]._process.kill()
    reader._idle[0]._process.wait()
    with pytest.raises(GenerationFailed, match="try again"):
        reader.read("audio", seed("wav"), MAX_SECONDS)
    assert reader.read("audio", seed("wav"), MAX_SECONDS) == decode_clip("audio", seed("wav"), MAX_SECONDS)


def test_a_reader_ends_with_the_process_that_uses_it(tmp_path: Path) -> None:
    clip = tmp_path / "clip.wav"
    clip.write_bytes(seed("wav"))
    code = (
        "import os, sys; from pathlib import Path; from serve_app.audio.read import ClipReader; "
        "reader = ClipReader(1); reader.read('audio', Path(sys.argv[1]).read_bytes(), 5); "
        "print(reader._idle[0]._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(clip)], capture_output=True, text=True, timeout=120)
    assert ran.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while is_running(int(ran.stdout)):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
