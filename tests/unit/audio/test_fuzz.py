"""Cut and damaged recordings of every kind: read or refused, at a bounded cost, and the reader lives on."""

import random
from collections.abc import Iterator

import pytest

from serve_app.audio import reader_process
from serve_app.audio.read import ClipReader
from serve_app.errors import InvalidAudio
from tests.support.recordings import KINDS, recording

MAX_SECONDS = 5.0
SHORT_SECONDS = 0.1
NUM_CASES = 10_000


@pytest.fixture(scope="module")
def reader() -> ClipReader:
    return ClipReader(1)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A flipped bit in a hundred bytes at most, near either end by preference, where a file's structure stands."""
    changed = bytearray(data)
    for _ in range(chance.choice((0, 1, 1, 2, 4, 16))):
        place = chance.randrange(len(changed))
        near_an_end = min(place, 200, len(changed) - 1) * chance.choice((1, -1))
        changed[chance.choice((place, near_an_end))] ^= 1 << chance.randrange(8)
    begin = chance.choice((0, 0, 0, chance.randrange(len(changed))))
    return bytes(changed[begin : chance.choice((len(changed), chance.randrange(len(changed) + 1)))])


def cases(name: str, num: int, seed: int = 0) -> Iterator[bytes]:
    chance = random.Random(f"{name} {seed}")
    for _ in range(num):
        yield damaged(recording(name, SHORT_SECONDS), chance)


def outcome(reader: ClipReader, data: bytes) -> int:
    """The kind of the reader's answer. That of a child which crashed, hung or grew is STOPPED."""
    try:
        pcm = reader.read("audio", data, MAX_SECONDS)
    except InvalidAudio as error:
        return reader_process.STOPPED if "takes too long" in error.message else 1
    assert 480 <= len(pcm) <= 2 * 24_000 * MAX_SECONDS + 2
    return 0


def test_a_damaged_recording_is_read_or_refused(reader: ClipReader) -> None:
    process = reader_process_of(reader)
    outcomes = [outcome(reader, data) for name in KINDS for data in cases(name, 2, seed=1)]
    assert set(outcomes) == {0, 1}
    assert reader_process_of(reader) == process


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_damaged_recordings_are_read_or_refused(reader: ClipReader) -> None:
    process = reader_process_of(reader)
    each = -(-NUM_CASES // len(KINDS))
    stopped = [
        (name, number)
        for name in KINDS
        for number, data in enumerate(cases(name, each))
        if outcome(reader, data) == reader_process.STOPPED
    ]
    assert not stopped
    assert reader_process_of(reader) == process


def reader_process_of(reader: ClipReader) -> int:
    reader.read("audio", recording("WAV PCM_16", SHORT_SECONDS), MAX_SECONDS)
    return reader._idle[0]._process.pid
