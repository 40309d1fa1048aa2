"""A caller's clip, decoded in a process of its own.

Limits on seconds, channels and rates bound what a clip unpacks to, but not what its headers cost the libraries that
read them: 32 MB of empty Matroska tags took 1.7 GB, 32 MB of ID3 frames minutes. There the kernel draws the line.
"""

import subprocess
import sys
import threading
from collections import deque
from typing import NoReturn

from serve_app.audio.reader_process import ANSWER, CLIP, READY, REFUSALS, STOPPED
from serve_app.errors import GenerationFailed, InvalidAudio

_MOST_PROCESSES = 4
_BOOT = "import sys; sys.path[:] = sys.argv[1:]; from serve_app.audio.reader_process import main; main()"


class ClipReader:
    """Reader processes, started when they are needed and kept. For threads: a call waits while all are busy."""

    def __init__(self, most_processes: int) -> None:
        self._places = threading.Semaphore(most_processes)
        self._idle: deque[_Reader] = deque()

    def read(self, field: str, data: bytes, max_seconds: float) -> bytes:
        """As `clip.decode_clip`, at the cost of at most `reader_process.CPU_SECONDS` and `MEMORY_BYTES`.

        Raises InvalidAudio, and GenerationFailed where no process can be had to read it.
        """
        with self._places:
            try:
                reader = self._idle.pop()
            except IndexError:
                reader = _Reader()
            kind, payload = reader.ask(data, max_seconds)
            self._idle.append(reader)
        if kind == STOPPED:
            raise InvalidAudio(
                field, "the audio takes too long or too much memory to decode; send an ordinary wav file"
            )
        if kind:
            raise REFUSALS[kind](field, payload.decode())
        return payload


class _Reader:
    """One of them, seen from here. It ends with this process, however that ends: its input does."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries write there what crafted files tell them to
        )
        self._receive(len(READY))

    def ask(self, data: bytes, max_seconds: float) -> tuple[int, bytes]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(CLIP.pack(max_seconds, len(data)) + data)
            self._process.stdin.flush()
        except BrokenPipeError:
            self._lost()
        kind, size = ANSWER.unpack(self._receive(ANSWER.size))
        return kind, self._receive(size)

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


read_clip = ClipReader(_MOST_PROCESSES).read
"""This process's own."""
