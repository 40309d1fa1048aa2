"""Says turns aloud: asks a server, or the model itself in this process."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from serve_app.cli.player import Player, open_player
from serve_app.cli.progress import console
from serve_app.client import Client, Turn
from serve_app.errors import StartupError

_STDOUT = "-"
_FORMATS = ("wav", "mp3", "flac", "opus", "aac", "pcm")


@dataclass(frozen=True, slots=True)
class Spoken:
    """What an answer turned out to be. `turn_starts`: the second at which each turn begins."""

    seed: int
    seconds: float
    turn_starts: tuple[float, ...]
    finish: str | None


class Source(Protocol):
    """Where speech comes from. `spoken` is known once `pcm` has ended."""

    sample_rate: int

    def pcm(self) -> Iterator[bytes]: ...

    def spoken(self) -> Spoken: ...


class ServerSource:
    """Speech of a running server."""

    sample_rate = 24_000

    def __init__(self, client: Client, turns: Sequence[Turn], seed: int | None) -> None:
        self._client = client
        self._turns = turns
        self._seed = seed
        self._request_id = ""

    def pcm(self) -> Iterator[bytes]:
        with self._client.stream(self._turns, **({} if self._seed is None else {"seed": self._seed})) as stream:
            self._request_id = stream.request_id
            for notice in stream.notices:
                console.print(notice, style="dim")
            yield from stream

    def spoken(self) -> Spoken:
        outcome = self._client.outcome(self._request_id)
        return Spoken(outcome.seed, outcome.audio_seconds, outcome.turn_starts, outcome.finish_reason)


def format_of(path: str) -> str:
    """The format that a file's name says. Raises StartupError for one that is none."""
    suffix = Path(path).suffix.removeprefix(".").lower() or "wav"
    if suffix not in _FORMATS:
        raise StartupError(f"--output: {path} names no format: end it with .{', .'.join(_FORMATS)}")
    return suffix


def say_aloud(source: Source, output: str | None, plays: bool) -> Spoken:
    """Play and keep what `source` says. Raises StartupError where it could be neither heard nor kept."""
    kind = "wav" if output in (None, _STDOUT) else format_of(output or "")
    with ExitStack() as stack:
        player = open_player(source.sample_rate) if plays else None
        if player is None and output is None:
            raise StartupError(
                "this machine has no sound device that a player can use: give -o FILE to keep the speech"
            )
        if player is not None:
            stack.enter_context(player)
        pcm = b"".join(_heard(source.pcm(), player, source.sample_rate))
    if output is not None:
        _keep(_encoded(pcm, kind), output)
    return source.spoken()


def _heard(pieces: Iterator[bytes], player: Player | None, sample_rate: int) -> Iterator[bytes]:
    began, heard, num_bytes = time.monotonic(), None, 0
    with _line() as show:
        for piece in pieces:
            heard = heard or time.monotonic() - began
            num_bytes += len(piece)
            if player is not None and not player.feed(piece):
                player = None
            show(f"{num_bytes / 2 / sample_rate:.1f} s spoken, the first after {1000 * heard:.0f} ms")
            yield piece


@contextmanager
def _line() -> Iterator[Callable[[str], None]]:
    """A line on stderr that changes on a terminal, and is printed once at the end elsewhere."""
    last = ""

    def show(text: str) -> None:
        nonlocal last
        last = text
        if console.is_terminal:
            console.print(text, end="\r", style="dim")

    yield show
    if last:
        console.print(last, style="dim")


def _encoded(pcm: bytes, kind: str) -> bytes:
    # Brings av and numpy, which speech that is only heard need not wait for.
    from serve_app.audio.encode.encoder import encode_whole
    from serve_app.audio.encode.formats import coding_of

    return encode_whole(pcm, coding_of(kind))


def _keep(data: bytes, output: str) -> None:
    try:
        target: BinaryIO = sys.stdout.buffer if output == _STDOUT else open(output, "wb")  # noqa: SIM115
        with target:
            target.write(data)
    except OSError as error:
        raise StartupError(f"--output: cannot write {output} ({error.strerror}): name another file") from error
