"""A caller's clip, decoded in a process of its own.

Limits on seconds, channels and rates bound what a clip unpacks to, but not what its headers cost the libraries that
read them: 32 MB of empty Matroska tags took 1.7 GB. There the kernel draws the line.
"""

import os
import subprocess
import sys
from collections import deque
from typing import NoReturn

from serve_app.audio.clip import Recording
from serve_app.audio.reader_process import ANSWER, CLIP, READY, REFUSALS, STOPPED, recording_of
from serve_app.errors import GenerationFailed, InvalidAudio
from serve_app.turns import TurnLimits, Turns

_MAX_PROCESSES = max(2, min(4, os.cpu_count() or 1))
"""No more than cores: one key's clips are decoded on all but one of them, and speech needs the cores too."""
_MAX_WAITING = 64
_MAX_WAITING_OF_OWNER = 16
_MAX_WAIT_SECONDS = 60.0
_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from serve_app.audio.reader_process import main; main()"
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""A thread's stack would count against the memory of each child."""


class ClipReader:
    """Reader processes, started when they are needed and kept. For threads: a call waits while all are busy."""

    def __init__(self, most_processes: int) -> None:
        self._turns = Turns(
            TurnLimits(
                "clips wait to be decoded", most_processes, _MAX_WAITING, _MAX_WAITING_OF_OWNER, _MAX_WAIT_SECONDS
            )
        )
        self._idle: deque[_Reader] = deque()

    def read(self, field: str, data: bytes, max_seconds: float) -> bytes:
        """The PCM of `read_recording`."""
        return self.read_recording(field, data, max_seconds).pcm

    def read_recording(self, field: str, data: bytes, max_seconds: float, owner: str = "") -> Recording:
        """As `clip.decode_recording`, at the cost of at most `reader_process.CPU_SECONDS` and `MEMORY_BYTES`.

        owner: the key that sends it. Its clips wait for each other rather than let those of other keys wait.
        Raises InvalidAudio, Overloaded where too many clips wait, and GenerationFailed where no process can be had.
        """
        with self._turns.turn(owner):
            try:
                reader = self._idle.pop()
            except IndexError:
                reader = _Reader()
            kind, payload, notices = reader.ask(data, max_seconds)
            self._idle.append(reader)
        if kind == STOPPED:
            raise InvalidAudio(
                field, "the audio takes too long or too much memory to decode; send an ordinary wav file"
            )
        if kind:
            raise REFUSALS[kind](field, payload.decode())
        return recording_of(payload, notices)


class _Reader:
    """One of them, seen from here. It ends with this process, however that ends: its input does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries write there what crafted files tell them to
            env={**os.environ, **_ONE_THREAD},
        )
        self._receive(len(READY))

    def ask(self, data: bytes, max_seconds: float) -> tuple[int, bytes, bytes]:
        """An answer's kind, payload and notices."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(CLIP.pack(max_seconds, len(data)) + data)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._lost()
        kind, size, notices_size = ANSWER.unpack(self._receive(ANSWER.size))
        return kind, self._receive(size), self._receive(notices_size)

    def _receive(self, size: int) -> bytes:
        assert self._process.stdout is not None
        received = self._process.stdout.read(size)
        if len(received) < size:
            self._lost()
        return received

    def _lost(self) -> NoReturn:
        self._process.kill()
        self._process.wait()
        raise GenerationFailed("the process that reads audio does not start or has died: try again")


_here = ClipReader(_MAX_PROCESSES)
read_clip = _here.read
read_recording = _here.read_recording
"""This process's own."""
