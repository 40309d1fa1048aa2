"""A conversation that its caller holds: signed text and codes, valid on any replica. Two minutes take about 90 KB."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serve_app.conversations.turn import Turn
from serve_app.errors import InvalidRequest, InvalidSignature
from serve_app.messages import Codes, ContextSegment
from serve_app.store.signing import Seals

_VERSION = 1
_MAX_BYTES = 4 * 1024 * 1024
"""Unpacked: an hour and a half of speech. A few packed bytes can stand for gigabytes."""


@dataclass(frozen=True, slots=True)
class State:
    voices: tuple[ContextSegment, ...]
    turns: tuple[Turn, ...]
    num_codebooks: int


class PortableStates:
    def __init__(self, seals: Seals) -> None:
        self._seals = seals

    def pack(self, voices: Sequence[ContextSegment], turns: Sequence[Turn], num_codebooks: int) -> str:
        head = {
            "version": _VERSION,
            "num_codebooks": num_codebooks,
            "voices": [[voice.text, voice.speaker, voice.codes.num_frames] for voice in voices],
            "turns": [turn.description() for turn in turns],
        }
        parts = (*(voice.codes.data for voice in voices), *(turn.codes.data for turn in turns))
        return self._seals.seal(zlib.compress(json.dumps(head).encode() + b"\n" + b"".join(parts)))

    def unpack(self, text: str) -> State:
        """Raises InvalidRequest at `state` for a text that no replica of this server has packed."""
        try:
            packed = self._seals.open(text)
        except InvalidSignature as error:
            raise InvalidRequest("state", str(error)) from None
        unpacking = zlib.decompressobj()
        data = unpacking.decompress(packed, _MAX_BYTES)
        if unpacking.unconsumed_tail:
            raise InvalidRequest("state", "holds more than 90 minutes: begin another conversation")
        line, _, codes = data.partition(b"\n")
        return _read(json.loads(line), codes)


def _read(head: dict[str, Any], data: bytes) -> State:
    if head["version"] != _VERSION:
        raise InvalidRequest("state", "was made by another release of this server: begin another conversation")
    size, at = int(head["num_codebooks"]), 0

    def take(frames: int) -> bytes:
        nonlocal at
        at += 2 * size * frames
        return data[at - 2 * size * frames : at]

    voices = tuple(
        ContextSegment(text, speaker, Codes(take(frames), size), anchor=True)
        for text, speaker, frames in head["voices"]
    )
    turns = tuple(
        Turn.of(turn, take(sum(passage["num_frames"] for passage in turn["passages"])), size) for turn in head["turns"]
    )
    return State(voices, turns, size)
