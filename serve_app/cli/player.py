"""Plays PCM while it comes, with a program of this machine."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Self

_RATE = "{rate}"
_PROGRAMS = (
    ("paplay", "--raw", "--format=s16le", "--channels=1", f"--rate={_RATE}"),
    ("aplay", "-q", "-t", "raw", "-f", "S16_LE", "-c", "1", "-r", _RATE),
    ("play", "-q", "-t", "raw", "-e", "signed", "-b", "16", "-c", "1", "-r", _RATE, "-"),
    ("ffplay", "-v", "quiet", "-nodisp", "-autoexit", "-f", "s16le", "-ac", "1", "-ar", _RATE, "-i", "-"),
)
"""PulseAudio and PipeWire, ALSA, SoX (also for macOS), FFmpeg. Each plays what comes on its standard input."""
_CARDS = Path("/dev/snd")
_SAMPLE = bytes(480)
_STARTS_SECONDS = 0.4


def has_device() -> bool:
    """Whether Linux knows a sound card, or a sound server runs. FFmpeg's player goes on silently without either."""
    if sys.platform != "linux":
        return True
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR", "/run"))
    servers = [runtime / "pulse" / "native", runtime / "pipewire-0"]
    return "PULSE_SERVER" in os.environ or any(path.exists() for path in (*servers, *_CARDS.glob("pcm*p")))


class Player:
    """One sound. `feed` returns False once nobody listens any more."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Waits until all was heard; after an error or Ctrl-C it falls silent at once."""
        if kind is not None:
            self._process.kill()
        with suppress(OSError):
            self._pipe.close()
        self._process.wait()

    def feed(self, pcm: bytes) -> bool:
        try:
            self._pipe.write(pcm)
            self._pipe.flush()
        except OSError:
            return False
        return True

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


def open_player(sample_rate: int) -> Player | None:
    """A player with a device, or None. Most programs without one end as soon as they get sound."""
    if not has_device():
        return None
    for program, *options in _PROGRAMS:
        if shutil.which(program) is None:
            continue
        command = [program, *(option.replace(_RATE, str(sample_rate)) for option in options)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        player = Player(process)
        player.feed(_SAMPLE)
        try:
            process.wait(_STARTS_SECONDS)
        except subprocess.TimeoutExpired:
            return player
        player.__exit__(None)
    return None
