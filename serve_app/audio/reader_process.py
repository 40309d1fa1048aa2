"""The other side of `read`: a process that forks for each clip, so that the kernel can stop the child alone.

    in:   CLIP, the file
    out:  READY once, then for each clip ANSWER and its payload: PCM and notices, or why there is none

A child may use CPU_SECONDS and MEMORY_BYTES, and can open neither a file nor a socket.
"""

import contextlib
import gc
import importlib
import os
import resource
import struct
import sys
from pathlib import Path
from typing import BinaryIO

from serve_app.audio.clip import Recording, decode_recording
from serve_app.errors import AudioTooLong, InvalidAudio

CPU_SECONDS = 10
"""90 seconds of 8 channels at 192 kHz, the worst that is an honest file, take 5."""
MEMORY_BYTES = 512 * 1024 * 1024
"""Beside the file itself, twice."""

CLIP = struct.Struct("<dQ")
"""Longest clip in seconds, bytes of the file."""
ANSWER = struct.Struct("<BQQ")
"""0 for PCM, a place in REFUSALS, or STOPPED; bytes of the PCM or of the refusal; bytes of the notices behind it."""
READY = b"ready"
REFUSALS: tuple[type[InvalidAudio], ...] = (InvalidAudio, InvalidAudio, AudioTooLong)
STOPPED = 255

_SILENT_MP3 = (b"\xff\xfb\x90\x00" + bytes(413)) * 20
_LOUD_AU = b".snd" + struct.pack(">5I", 24, 0xFFFFFFFF, 2, 8000, 2) + b"\x40\xc0\x40\xc0\xc0\x40\xc0\x40" * 100
_PAGES_IN_USE = Path("/proc/self/statm")
"""Linux's; elsewhere a child's memory is not limited."""


def main() -> None:
    # What a library prints must not end up between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    clips = sys.stdin.buffer
    _load_late_parts()
    _send(answers, READY)
    while head := clips.read(CLIP.size):
        max_seconds, size = CLIP.unpack(head)
        _send(answers, _answer_of_child(clips.read(size), max_seconds))


def _load_late_parts() -> None:
    """Which a child cannot: it opens no file."""
    for part in ("codeccontext", "subtitle"):  # a track of a video that is met, and never decoded
        importlib.import_module(f"av.subtitles.{part}")
    for clip in (_SILENT_MP3, _LOUD_AU, _LOUD_AU[:12] + b"\0\0\0\x17" + _LOUD_AU[16:]):
        with contextlib.suppress(InvalidAudio):
            decode_recording("audio", clip, max_seconds=1)
    gc.freeze()  # the children share these pages


def _send(answers: BinaryIO, data: bytes) -> None:
    answers.write(data)
    answers.flush()


def _answer_of_child(data: bytes, max_seconds: float) -> bytes:
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            _limit_this_process(len(data))
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(_answer(data, max_seconds))
            os._exit(0)
        finally:
            os._exit(1)  # the parent tells the rest
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return answer if status == 0 else ANSWER.pack(STOPPED, 0, 0)


def _answer(data: bytes, max_seconds: float) -> bytes:
    try:
        recording = decode_recording("audio", data, max_seconds)
    except InvalidAudio as error:
        message = error.message.encode()
        return ANSWER.pack(REFUSALS.index(type(error), 1), len(message), 0) + message
    notices = "\n".join(recording.notices).encode()
    return ANSWER.pack(0, len(recording.pcm), len(notices)) + recording.pcm + notices


def recording_of(pcm: bytes, notices: bytes) -> Recording:
    """What an answer of kind 0 says."""
    return Recording(pcm, tuple(notices.decode().splitlines()))


def _limit_this_process(file_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if _PAGES_IN_USE.exists():
        in_use = int(_PAGES_IN_USE.read_text().split()[0]) * resource.getpagesize()
        most = in_use + MEMORY_BYTES + 2 * file_bytes
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
